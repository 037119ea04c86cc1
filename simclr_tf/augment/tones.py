"""Augmentations of each value by itself: solarize, invert, posterize."""

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, between, by_image, check_range


class Solarize(Augmentation):
    """Inverts the values above a threshold: x <- 1 - x where x > t.

    Args:
        threshold: smallest and largest t, within [0, 1]; at 1 nothing is inverted.
        probability: with which an image is solarized.
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on an empty range.
    """

    uniforms = 1

    def __init__(self, threshold: tuple[float, float] = (0.5, 0.5), probability: float = 0.2, **kwargs):
        super().__init__(probability, **kwargs)
        self.threshold = check_range("threshold", threshold, 0.0, 1.0)

    def parameters(self, u, image_shape):
        """`threshold`, float32 (N,)."""
        return {"threshold": between(u[0], self.threshold)}

    def transform(self, planes, parameters):
        """Inverts what is bright."""
        return [solarize(plane, parameters["threshold"]) for plane in planes]


class Invert(Augmentation):
    """Makes negatives: x <- 1 - x, by default of half of the images."""

    def __init__(self, probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)

    def transform(self, planes, parameters):
        """Inverts."""
        return [1.0 - plane for plane in planes]


class Posterize(Augmentation):
    """Keeps the upper bits of each value, as if it had been stored in a byte; with 8 bits nothing changes.

    Args:
        bits: fewest and most bits, integers within [1, 8], all equally likely.
        probability: with which an image is posterized.
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on an empty range.
    """

    uniforms = 1

    def __init__(self, bits: tuple[int, int] = (3, 5), probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)
        self.bits = check_range("number of bits", bits, 1, 8)

    def parameters(self, u, image_shape):
        """`bits`, whole numbers in float32 (N,)."""
        return {"bits": self.bits[0] + tf.floor(u[0] * (self.bits[1] - self.bits[0] + 1.0))}

    def transform(self, planes, parameters):
        """Rounds down to multiples of a power of two."""
        return [posterize(plane, parameters["bits"]) for plane in planes]


def solarize(plane: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """A plane (N, H, W), inverted above each image's threshold (N,)."""
    return tf.where(plane > by_image(threshold), 1.0 - plane, plane)


def posterize(plane: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """A plane (N, H, W), rounded down to so many bits (N,) of a byte."""
    step = by_image(tf.round(tf.pow(2.0, 8.0 - bits)))
    # Rounded first, because 255 (k / 255) may come out just below k.
    return tf.where(step > 1.0, tf.floor(tf.round(255.0 * plane) / step) * step / 255.0, plane)
