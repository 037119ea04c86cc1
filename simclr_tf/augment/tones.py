"""Augmentations of single values: solarize, invert, posterize."""

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, between, by_image, check_range


class Solarize(Augmentation):
    """Inverts the values above a threshold: x <- 1 - x where x > t.

    Args:
        threshold: Smallest and largest t, within [0, 1]; at 1 nothing is inverted.
        probability: Probability that an image is solarized.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or out of bounds.
    """

    uniforms = 1
    moves_pixels = False

    def __init__(self, threshold: tuple[float, float] = (0.5, 0.5), probability: float = 0.2, **kwargs):
        super().__init__(probability, **kwargs)
        self.threshold = check_range("threshold", threshold, 0.0, 1.0)

    def parameters(self, u, image_shape):
        """`threshold`, float32 (N,)."""
        return {"threshold": between(u[0], self.threshold)}

    def transform(self, planes, parameters):
        """Inverts the bright values."""
        return [solarize(plane, parameters["threshold"]) for plane in planes]


class Invert(Augmentation):
    """Inverts images: x <- 1 - x, by default half of them."""

    moves_pixels = False

    def __init__(self, probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)

    def transform(self, planes, parameters):
        """Inverts."""
        return [1.0 - plane for plane in planes]


class Posterize(Augmentation):
    """Keeps the upper bits of each value, taken as a byte; with 8 bits nothing changes.

    Args:
        bits: Smallest and largest number of bits, integers within [1, 8]; all are equally likely.
        probability: Probability that an image is posterized.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or out of bounds.
    """

    uniforms = 1
    moves_pixels = False

    def __init__(self, bits: tuple[int, int] = (3, 5), probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)
        self.bits = check_range("bits", bits, 1, 8)

    def parameters(self, u, image_shape):
        """`bits`, whole numbers, float32 (N,)."""
        return {"bits": self.bits[0] + tf.floor(u[0] * (self.bits[1] - self.bits[0] + 1.0))}

    def transform(self, planes, parameters):
        """Rounds down to multiples of a power of two."""
        return [posterize(plane, parameters["bits"]) for plane in planes]


def solarize(plane: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the values of a plane (N, H, W) above each image's threshold (N,)."""
    return tf.where(plane > by_image(threshold), 1.0 - plane, plane)


def posterize(plane: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Rounds a plane (N, H, W) down to each image's number of bits (N,)."""
    step = by_image(tf.round(tf.pow(2.0, 8.0 - bits)))
    # Rounded first, because 255 (k / 255) may be slightly less than k.
    return tf.where(step > 1.0, tf.floor(tf.round(255.0 * plane) / step) * step / 255.0, plane)
