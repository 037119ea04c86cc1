"""Augmentations of geometry: flip, rotation, cutout, and the warp behind them; crops are in `crops.py`."""

import math

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, Planes, between, by_image, check_number, check_range, clip


class RandomFlip(Augmentation):
    """Mirrors images left to right, by default half of them."""

    def __init__(self, probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)

    def transform(self, planes, parameters):
        """Mirrors."""
        return [tf.reverse(plane, axis=[2]) for plane in planes]


class RandomRotate90(Augmentation):
    """Rotates images by 90, 180 or 270 degrees, equally likely; those that are not square, by 180 degrees.

    With the default probability, all four orientations are equally frequent. This is the rotation of the paper's
    study (figure 4; with 0 degrees as in table 3).
    """

    uniforms = 1
    reads_neighbors = True

    def __init__(self, probability: float = 0.75, **kwargs):
        super().__init__(probability, **kwargs)

    def parameters(self, u, image_shape):
        """`quarters` of a turn counterclockwise, int32 (N,)."""
        if image_shape[0] != image_shape[1]:
            return {"quarters": tf.fill(tf.shape(u[0]), 2)}
        return {"quarters": 1 + tf.cast(tf.floor(u[0] * 3.0), tf.int32)}

    def transform(self, planes, parameters):
        """Rotates by a half turn, then by a quarter turn, as drawn."""
        half, quarter = by_image(parameters["quarters"] >= 2), by_image(parameters["quarters"] % 2 == 1)
        planes = [tf.where(half, tf.reverse(plane, axis=[1, 2]), plane) for plane in planes]
        if planes[0].shape[1] != planes[0].shape[2]:
            return planes
        return [tf.where(quarter, tf.reverse(tf.transpose(plane, [0, 2, 1]), axis=[1]), plane) for plane in planes]


class RandomRotate(Augmentation):
    """Rotates images about their center with bilinear interpolation; pixels from outside are black.

    Args:
        degrees: Largest angle, within [0, 180]; the angle is uniform in [-degrees, degrees].
        probability: Probability that an image is rotated.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the angle is out of range.
    """

    uniforms = 1
    reads_neighbors = True

    def __init__(self, degrees: float = 45.0, probability: float = 1.0, **kwargs):
        check_number("degrees", degrees, 0.0, 180.0)
        super().__init__(probability if degrees > 0.0 else 0.0, **kwargs)
        self.degrees = degrees

    def parameters(self, u, image_shape):
        """`angle`, counterclockwise, in radians, float32 (N,)."""
        return {"angle": (2.0 * u[0] - 1.0) * math.radians(self.degrees)}

    def transform(self, planes, parameters):
        """Rotates."""
        rows, columns = planes[0].shape[1:]
        return warp(planes, *rotation(parameters["angle"], rows, columns), method="bilinear", fill=0.0)


class RandomCutout(Augmentation):
    """Covers a square with gray; its center is anywhere, so part of it may lie outside (DeVries & Taylor, 2017).

    Args:
        side: Smallest and largest side, as a fraction of the image's shorter side, within [0, 1]. The default is the
            original's 16 pixels of 32.
        fill: Value of the covered pixels, within [0, 1].
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or a value is out of bounds.
    """

    uniforms = 3
    moves_pixels = False

    def __init__(self, side: tuple[float, float] = (0.5, 0.5), fill: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.side = check_range("side", side, 0.0, 1.0)
        self.fill = check_number("fill", fill, 0.0, 1.0)

    def parameters(self, u, image_shape):
        """`side`, `top` and `left` of the square in whole pixels, float32 (N,); the latter may be negative."""
        side = tf.round(between(u[0], self.side) * min(image_shape[:2]))
        top, left = (tf.floor(u[1 + axis] * image_shape[axis]) - tf.floor(side / 2.0) for axis in range(2))
        return {"side": side, "top": top, "left": left}

    def transform(self, planes, parameters):
        """Covers."""
        down = tf.range(planes[0].shape[1], dtype=tf.float32)[:, None] - by_image(parameters["top"])
        across = tf.range(planes[0].shape[2], dtype=tf.float32) - by_image(parameters["left"])
        side = by_image(parameters["side"])
        covered = (down >= 0.0) & (down < side) & (across >= 0.0) & (across < side)
        return [tf.where(covered, self.fill, plane) for plane in planes]


def rotation(angle: tf.Tensor, rows: int, columns: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Source row and column, (N, H, W), of each pixel of images rotated about their centers.

    Angles (N,) are counterclockwise, in radians; pixel centers are whole numbers.
    """
    y = tf.range(rows, dtype=tf.float32)[:, None] - (rows - 1) / 2
    x = tf.range(columns, dtype=tf.float32) - (columns - 1) / 2
    cosine, sine = by_image(tf.cos(angle)), by_image(tf.sin(angle))
    # Rows count downward, so the inverse of a counterclockwise rotation has this sign.
    return cosine * y + sine * x + (rows - 1) / 2, cosine * x - sine * y + (columns - 1) / 2


def warp(planes: Planes, rows: tf.Tensor, columns: tf.Tensor, method: str, fill: float) -> Planes:
    """Takes each pixel from a row and column of its image, (N, H, W) each, and `fill` from outside of it.

    The interpolation is "bilinear" or "nearest". It is done with gathers, because TensorFlow's
    `ImageProjectiveTransformV3` does not compile under XLA.
    """
    if method == "nearest":
        # Halves are rounded up, as in PIL.
        return _gather(planes, tf.floor(rows + 0.5), tf.floor(columns + 0.5), fill)
    top, left = tf.floor(rows), tf.floor(columns)
    down, right = rows - top, columns - left
    corners = [[_gather(planes, top + i, left + j, fill) for j in (0.0, 1.0)] for i in (0.0, 1.0)]
    return [
        clip((1.0 - down) * ((1.0 - right) * a + right * b) + down * ((1.0 - right) * c + right * d))
        for a, b, c, d in zip(*corners[0], *corners[1], strict=True)
    ]


def _gather(planes: Planes, rows: tf.Tensor, columns: tf.Tensor, fill: float) -> Planes:
    height, width = planes[0].shape[1:]
    inside = (rows >= 0.0) & (rows < height) & (columns >= 0.0) & (columns < width)
    index = tf.cast(tf.where(inside, rows * width + columns, 0.0), tf.int32)  # exact below 2^24 pixels
    flat, at = [-1, height * width], tf.reshape(index, [-1, height * width])
    return [
        tf.where(inside, tf.reshape(tf.gather(tf.reshape(plane, flat), at, batch_dims=1), tf.shape(plane)), fill)
        for plane in planes
    ]
