"""Augmentations that move pixels."""

import math

import tensorflow as tf

from simclr_tf.augment.base import Augmentation


class RandomResizedCrop(Augmentation):
    """Cuts out a rectangle of random area and aspect and resizes it to the image's own size.

    The area is uniform in `area` (as a part of the image's), the logarithm of the aspect ratio uniform in `aspect`, as
    in the paper's appendix A. Where a rectangle of that area would not fit into the image for every aspect, the range
    of aspects is cut to those that fit; torchvision and TensorFlow draw again instead, which makes large areas rarer
    than the uniform law says. Sides are whole pixels.

    Resizing is bilinear with half-pixel centres, clamped at the crop's border as if it were cut out first. It is two
    batched matrix products, rows and then columns, each image with its own weights: unlike `tf.image.crop_and_resize`
    it compiles under XLA.

    Args:
        area: smallest and largest area, in (0, 1].
        aspect: smallest and largest ratio of width to height.
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on an empty range.
    """

    uniforms = 4

    def __init__(self, area: tuple[float, float] = (0.08, 1.0), aspect: tuple[float, float] = (3 / 4, 4 / 3), **kwargs):
        super().__init__(**kwargs)
        if not 0.0 < area[0] <= area[1] <= 1.0:
            raise ValueError(f"The area must be a range within (0, 1]. Received: {area}")
        if not 0.0 < aspect[0] <= aspect[1]:
            raise ValueError(f"The aspect must be a range of positive ratios. Received: {aspect}")
        self.area, self.aspect = tuple(area), tuple(aspect)

    def parameters(self, u, image_shape):
        """The crop's `top`, `left`, `height` and `width` in pixels, float32 (N,)."""
        rows, columns = image_shape[0], image_shape[1]
        area = self.area[0] + u[0] * (self.area[1] - self.area[0])
        # width^2 = area * aspect * rows * columns <= columns^2, and likewise for the height.
        log_low = tf.maximum(math.log(self.aspect[0]), tf.math.log(area * columns / rows))
        log_high = tf.minimum(math.log(self.aspect[1]), tf.math.log(columns / rows / area))
        aspect = tf.exp(log_low + u[1] * tf.maximum(log_high - log_low, 0.0))
        pixels = area * rows * columns
        height = tf.clip_by_value(tf.round(tf.sqrt(pixels / aspect)), 1.0, rows)
        width = tf.clip_by_value(tf.round(tf.sqrt(pixels * aspect)), 1.0, columns)
        return {
            "top": tf.floor(u[2] * (rows - height + 1.0)),
            "left": tf.floor(u[3] * (columns - width + 1.0)),
            "height": height,
            "width": width,
        }

    def transform(self, images, parameters):
        """Crops and resizes."""
        rows, columns, channels = images.shape[1:]
        down = _bilinear_weights(parameters["top"], parameters["height"], rows)
        across = _bilinear_weights(parameters["left"], parameters["width"], columns)
        x = tf.matmul(down, tf.reshape(images, [-1, rows, columns * channels]))
        x = tf.transpose(tf.reshape(x, [-1, rows, columns, channels]), [0, 2, 1, 3])
        x = tf.matmul(across, tf.reshape(x, [-1, columns, rows * channels]))
        return tf.transpose(tf.reshape(x, [-1, columns, rows, channels]), [0, 2, 1, 3])


def _bilinear_weights(start: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """Weights (N, size, size) that stretch `length` pixels from `start` over `size` pixels, along one axis."""
    at = (tf.range(size, dtype=tf.float32) + 0.5) / size  # output pixels' centres, in (0, 1)
    start, length = start[:, None], length[:, None]
    source = tf.clip_by_value(start + at * length - 0.5, start, start + length - 1.0)  # (N, size)
    distance = tf.abs(source[:, :, None] - tf.range(size, dtype=tf.float32))
    return tf.maximum(0.0, 1.0 - distance)


class RandomFlip(Augmentation):
    """Mirrors images left to right, by default half of them."""

    def __init__(self, probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)

    def parameters(self, u, image_shape):
        """None besides being chosen."""
        return {}

    def transform(self, images, parameters):
        """Mirrors."""
        return tf.reverse(images, axis=[2])
