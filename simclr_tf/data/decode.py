"""Encoded images -> uint8 pixels by TensorFlow's own kernels: no Python for an image, so it runs wherever tf.data does.

A view is cut out of the original image while it is decoded. Where that shrinks the crop, each output pixel is the mean
of the area that it covers; where it enlarges it, the interpolation is bilinear with half-pixel centers. Either way the
output sees the crop only.
"""

import tensorflow as tf

CENTER = 0.875  # part of a large image's shorter side that evaluation looks at, as in the paper's code

# As fast here as the default, and the pixels are Pillow's.
_DCT = "INTEGER_ACCURATE"

UPRIGHT = 1  # EXIF's orientation of an image that is stored as it is to be seen; 2 to 8 are mirrored or turned


def shape_of(contents: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Height and width of an image as it is to be seen, int32 (2,)."""
    shape = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.extract_jpeg_shape(contents)[:2],
        lambda: tf.shape(_decode(contents))[:2],
    )
    return tf.where(_turned(orientation), shape[::-1], shape)


def cut(contents: tf.Tensor, orientation: tf.Tensor, boxes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes an image once and cuts several boxes out of it.

    Args:
        contents: The encoded image, string ().
        orientation: Its EXIF orientation, int32 (), 1 to 8.
        boxes: `top`, `left`, `height` and `width` in pixels of the image as it is to be seen, int32 (V, 4).
        size: Side of the output, in pixels.

    Returns:
        uint8 (V, size, size, 3).
    """
    stored = _as_stored(boxes, orientation, shape_of(contents, orientation))
    top_left = tf.reduce_min(stored[:, :2], axis=0)
    bottom_right = tf.reduce_max(stored[:, :2] + stored[:, 2:], axis=0)
    # Of a JPEG, only what some view needs is decoded; decoding for each view would go through the bits of it twice.
    part = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_and_crop_jpeg(
            contents, tf.concat([top_left, bottom_right - top_left], 0), channels=3, dct_method=_DCT
        ),
        lambda: _decode(contents)[top_left[0] : bottom_right[0], top_left[1] : bottom_right[1]],
    )
    views = []
    for top, left, height, width in map(tf.unstack, tf.unstack(stored - tf.concat([top_left, [0, 0]], 0))):
        view = _resize(part[top : top + height, left : left + width], tf.constant([size, size]))
        views.append(_upright(view, orientation))
    return tf.ensure_shape(tf.stack(views), (boxes.shape[0], size, size, 3))


def whole(contents: tf.Tensor, orientation: tf.Tensor, size: int) -> tf.Tensor:
    """The center square of an image, as evaluation sees it.

    The shorter side becomes `size`, and of an image that is larger `size` / 0.875, before the center is cut out. An image
    of `size` x `size` pixels stays as it is.

    Args:
        contents: The encoded image, string ().
        orientation: Its EXIF orientation, int32 (), 1 to 8.
        size: Side of the output, in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    image = _decode(contents)
    sides = tf.cast(tf.shape(image)[:2], tf.float64)
    shorter = tf.reduce_min(sides)
    target = tf.where(shorter > size, tf.cast(round(size / CENTER), tf.float64), tf.cast(size, tf.float64))
    image = _resize(image, tf.cast(tf.maximum(tf.round(sides * target / shorter), size), tf.int32))
    start = (tf.shape(image)[:2] - size) // 2
    center = _upright(image[start[0] : start[0] + size, start[1] : start[1] + size], orientation)
    return tf.ensure_shape(center, (size, size, 3))


def _decode(contents: tf.Tensor) -> tf.Tensor:
    """An encoded image, as stored, uint8 (H, W, 3); of an animation the first frame, and of 16 bits the upper eight."""
    kind = tf.strings.substr(contents, 8, 4)

    def other() -> tf.Tensor:
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    def bmp() -> tf.Tensor:  # `decode_bmp` adds and drops no channels
        image = tf.io.decode_bmp(contents)
        return tf.cond(
            tf.shape(image)[2] == 1, lambda: tf.image.grayscale_to_rgb(image[..., :1]), lambda: image[..., :3]
        )

    starts = tf.strings.substr(contents, 0, 2)
    image = tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT)),
            (tf.equal(starts, b"BM"), bmp),
            (tf.equal(kind, b"WEBP"), lambda: tf.io.decode_webp(contents, channels=3)[0]),
        ],
        default=other,
    )
    return tf.ensure_shape(image, (None, None, 3))


def _resize(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Uint8 (H, W, 3) -> uint8 of the size, int32 (2,)."""
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


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored image, square or not, as its orientation says."""

    def turn() -> tf.Tensor:
        turned = tf.cond(_turned(orientation), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        down, across = _mirrored(orientation)
        turned = tf.cond(down, lambda: turned[::-1], lambda: turned)
        return tf.cond(across, lambda: turned[:, ::-1], lambda: turned)

    return tf.cond(tf.equal(orientation, UPRIGHT), lambda: image, turn)


def _mirrored(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether, once rows and columns are exchanged if they have to be, the image is upside down, and left to right."""
    down = tf.reduce_any(orientation == [3, 4, 7, 8])
    across = tf.reduce_any(orientation == [2, 3, 6, 7])
    return down, across


def _as_stored(boxes: tf.Tensor, orientation: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Boxes in an image as it is to be seen, of height and width `shape` -> the same in the image as stored."""
    down, across = _mirrored(orientation)
    top, left, height, width = tf.unstack(boxes, axis=1)
    top = tf.where(down, shape[0] - top - height, top)
    left = tf.where(across, shape[1] - left - width, left)
    turned = tf.stack([left, top, width, height], axis=1)
    return tf.where(_turned(orientation), turned, tf.stack([top, left, height, width], axis=1))
