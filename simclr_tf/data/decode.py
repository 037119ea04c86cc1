"""Encoded images -> uint8 pixels by TensorFlow's own kernels: no Python runs per image, so it works wherever tf.data does.

A view is cut out of the original image while it is decoded. If the view is smaller than the crop, each of its pixels is
the mean of the area that it covers; if it is larger, the interpolation is bilinear with half-pixel centers. Either way
the view depends on the crop only.
"""

import tensorflow as tf

CENTER = 0.875  # part of a large image's shorter side that evaluation looks at, as in the paper's code

LONGEST = 4  # times its shorter side; of longer images, the part in the middle is looked at

# As fast here as the default, and the pixels are Pillow's.
_DCT = "INTEGER_ACCURATE"

UPRIGHT = 1  # EXIF's orientation of an image that is stored as it is to be seen; 2 to 8 are mirrored or turned


def as_stored(boxes: tf.Tensor, orientations: tf.Tensor, shapes: tf.Tensor) -> tf.Tensor:
    """Boxes in images as they are to be seen -> the same in the images as they are stored.

    Args:
        boxes: `top`, `left`, `height` and `width` in pixels, int32 (..., V, 4).
        orientations: EXIF orientations, int32 (...), 1 to 8.
        shapes: Heights and widths of the images as they are to be seen, int32 (..., 2).

    Returns:
        Int32 (..., V, 4).
    """
    down, across = (tf.expand_dims(mirrored, -1) for mirrored in _mirrored(orientations))
    rows, columns = shapes[..., 0, tf.newaxis], shapes[..., 1, tf.newaxis]
    top, left, height, width = tf.unstack(boxes, axis=-1)
    top = tf.where(down, rows - top - height, top)
    left = tf.where(across, columns - left - width, left)
    turned = tf.stack([left, top, width, height], axis=-1)
    upright = tf.stack([top, left, height, width], axis=-1)
    return tf.where(_turned(orientations)[..., tf.newaxis, tf.newaxis], turned, upright)


def cut(contents: tf.Tensor, orientation: tf.Tensor, boxes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes an image once and cuts several boxes out of it.

    Args:
        contents: The encoded image, string ().
        orientation: Its EXIF orientation, int32 (), 1 to 8.
        boxes: `top`, `left`, `height` and `width` in pixels of the image as it is stored, int32 (V, 4).
        size: Side of the output, in pixels.

    Returns:
        uint8 (V, size, size, 3), as they are to be seen.
    """
    start = tf.reduce_min(boxes[:, :2], axis=0)
    extent = tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) - start
    # Of a JPEG, only what some view needs is decoded; decoding for each view would go through the bits of it twice.
    part = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_and_crop_jpeg(contents, tf.concat([start, extent], 0), channels=3, dct_method=_DCT),
        lambda: tf.slice(_decode(contents), tf.pad(start, [[0, 1]]), tf.concat([extent, [3]], 0)),
    )
    views = [
        _resize(tf.slice(part, tf.pad(box[:2] - start, [[0, 1]]), tf.concat([box[2:], [3]], 0)), [size, size])
        for box in tf.unstack(boxes)
    ]
    return tf.ensure_shape(_upright(tf.stack(views), orientation), (boxes.shape[0], size, size, 3))


def whole(contents: tf.Tensor, orientation: tf.Tensor, size: int) -> tf.Tensor:
    """The center square of an image, as evaluation sees it.

    Before the center is cut out, the image is resized so that its shorter side becomes `size`, or `size` / 0.875 if it was
    longer than `size`. An image of `size` x `size` pixels stays as it is.

    Args:
        contents: The encoded image, string ().
        orientation: Its EXIF orientation, int32 (), 1 to 8.
        size: Side of the output, in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    image = _decode(contents)
    # Of a very long image, the rest would be resized for nothing, and could take any amount of memory.
    shape = tf.shape(image)[:2]
    shape = tf.minimum(shape, LONGEST * tf.reduce_min(shape))
    start = (tf.shape(image)[:2] - shape) // 2
    image = image[start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]
    sides = tf.cast(tf.shape(image)[:2], tf.float64)
    shorter = tf.reduce_min(sides)
    target = tf.where(shorter > size, tf.cast(round(size / CENTER), tf.float64), tf.cast(size, tf.float64))
    image = _resize(image, tf.cast(tf.maximum(tf.round(sides * target / shorter), size), tf.int32))
    start = (tf.shape(image)[:2] - size) // 2
    center = image[start[0] : start[0] + size, start[1] : start[1] + size]
    return tf.ensure_shape(_upright(center[tf.newaxis], orientation)[0], (size, size, 3))


def _decode(contents: tf.Tensor) -> tf.Tensor:
    """An encoded image, as stored, uint8 (H, W, 3); the first frame of a GIF, the upper eight of 16 bits."""

    def bmp() -> tf.Tensor:  # `decode_bmp` adds and drops no channels
        image = tf.io.decode_bmp(contents)
        return tf.cond(
            tf.shape(image)[2] == 1, lambda: tf.image.grayscale_to_rgb(image[..., :1]), lambda: image[..., :3]
        )

    image = tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT)),
            (tf.equal(tf.strings.substr(contents, 0, 2), b"BM"), bmp),
            # Asking for 3 channels would refuse alpha.
            (tf.equal(tf.strings.substr(contents, 8, 4), b"WEBP"), lambda: tf.io.decode_webp(contents)[0][..., :3]),
        ],
        default=lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _resize(image: tf.Tensor, size: tf.Tensor | list[int]) -> tf.Tensor:
    """Uint8 (H, W, 3) -> uint8 of the size (2,)."""
    shape = tf.shape(image)[:2]

    def resized() -> tf.Tensor:
        batch = image[tf.newaxis]
        pixels = tf.cond(
            tf.reduce_prod(shape) > tf.reduce_prod(size),
            lambda: tf.raw_ops.ResizeArea(images=batch, size=size),
            lambda: tf.raw_ops.ResizeBilinear(images=batch, size=size, half_pixel_centers=True),
        )
        return tf.cast(pixels[0] + 0.5, tf.uint8)

    return tf.cond(tf.reduce_all(shape == size), lambda: image, resized)


def _turned(orientation: tf.Tensor) -> tf.Tensor:
    """Whether rows and columns are exchanged."""
    return orientation >= 5


def _upright(images: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns stored square images (V, H, H, 3) as their orientation says."""

    def transposed() -> tf.Tensor:
        # Not `tf.transpose`: for bytes, TensorFlow would warn that oneDNN does not support it on every processor.
        side = tf.shape(images)[1]
        places = side * tf.range(side) + tf.range(side)[:, tf.newaxis]  # of (row, column): that of (column, row)
        pixels = tf.gather(tf.reshape(images, [-1, side * side, 3]), tf.reshape(places, [-1]), axis=1)
        return tf.reshape(pixels, tf.shape(images))

    def turn() -> tf.Tensor:
        turned = tf.cond(_turned(orientation), transposed, lambda: images)
        down, across = _mirrored(orientation)
        turned = tf.cond(down, lambda: turned[:, ::-1], lambda: turned)
        return tf.cond(across, lambda: turned[:, :, ::-1], lambda: turned)

    return tf.cond(tf.equal(orientation, UPRIGHT), lambda: images, turn)


def _mirrored(orientations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether images are mirrored top to bottom, and left to right, once rows and columns are exchanged if need be."""
    down = tf.reduce_any(orientations[..., tf.newaxis] == [3, 4, 7, 8], axis=-1)
    across = tf.reduce_any(orientations[..., tf.newaxis] == [2, 3, 6, 7], axis=-1)
    return down, across
