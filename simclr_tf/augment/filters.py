"""Augmentations that filter: blur, edges and noise."""

import math

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, between, by_image, check_range, clip
from simclr_tf.augment.crops import reflect, resample
from simclr_tf.augment.hashing import standard_normal


class GaussianBlur(Augmentation):
    """Blurs with a Gaussian of random width (paper, appendix A).

    The standard deviation is uniform in `sigma` pixels; the kernel's side is a tenth of the image's, odd and at least 3.
    Borders are reflected.

    Both passes are products with banded matrices. Sums of shifted images would take fewer operations, but XLA would
    evaluate all preceding layers once for each shift, which costs ten times the blur.

    Args:
        sigma: Smallest and largest standard deviation, in pixels.
        probability: Probability that an image is blurred.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or out of bounds.
    """

    uniforms = 1
    moves_pixels = False

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)
        self.sigma = check_range("sigma", sigma, 1e-3, 1e3)

    def parameters(self, u, image_shape):
        """`sigma`, float32 (N,), in pixels."""
        return {"sigma": between(u[0], self.sigma)}

    def transform(self, planes, parameters):
        """Blurs columns and rows."""
        rows, columns = planes[0].shape[1:]
        radius = max(1, max(rows, columns) // 20)
        at = tf.range(-radius, radius + 1, dtype=tf.float32)
        weights = tf.nn.softmax(-0.5 * tf.square(at / parameters["sigma"][:, None]))  # (N, 2 radius + 1)
        # The rounded weights may sum to 1 + 1e-7.
        return [clip(plane) for plane in resample(planes, _band(weights, rows), _band(weights, columns))]


def _band(weights: tf.Tensor, size: int) -> tf.Tensor:
    """Matrices (N, size, size) that correlate along one axis with weights (N, K); borders are reflected."""
    taps = weights.shape[1]
    source = tf.range(size, dtype=tf.float32)[:, None] + tf.range(taps, dtype=tf.float32) - taps // 2  # (size, K)
    period = max(2.0 * (size - 1), 1.0)  # a kernel wider than the image is reflected repeatedly
    source = reflect(source - period * tf.floor(source / period), size)
    places = tf.one_hot(tf.cast(source, tf.int32), size)  # (size, K, size)
    return tf.einsum("nk,iks->nis", weights, places)


class SobelFilter(Augmentation):
    """Replaces images by the strength of their edges in each channel (Sobel & Feldman, 1968).

        x <- (1 - a) x + a min(1, sqrt(dx^2 + dy^2) / 4)

    where dx and dy are the correlations with [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]] and its transpose, both within
    [-4, 4]. Borders are repeated.

    Args:
        amount: Smallest and largest a, within [0, 1].
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or out of bounds.
    """

    uniforms = 1
    moves_pixels = False
    reads_neighbors = True

    def __init__(self, amount: tuple[float, float] = (1.0, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.amount = check_range("amount", amount, 0.0, 1.0)

    def parameters(self, u, image_shape):
        """`amount`, float32 (N,)."""
        return {"amount": between(u[0], self.amount)}

    def transform(self, planes, parameters):
        """Blends with the edges."""
        amount = by_image(parameters["amount"])
        return [(1.0 - amount) * plane + amount * _edges(plane) for plane in planes]


def _edges(plane: tf.Tensor) -> tf.Tensor:
    padded = tf.concat([plane[:, :1], plane, plane[:, -1:]], axis=1)
    padded = tf.concat([padded[:, :, :1], padded, padded[:, :, -1:]], axis=2)
    difference = padded[:, :, 2:] - padded[:, :, :-2]  # (N, H + 2, W)
    dx = difference[:, :-2] + 2.0 * difference[:, 1:-1] + difference[:, 2:]
    difference = padded[:, 2:] - padded[:, :-2]  # (N, H, W + 2)
    dy = difference[:, :, :-2] + 2.0 * difference[:, :, 1:-1] + difference[:, :, 2:]
    return tf.minimum(1.0, tf.sqrt(dx * dx + dy * dy) / 4.0)


class GaussianNoise(Augmentation):
    """Adds independent Gaussian noise to every pixel and channel, then clips to [0, 1].

    Each image draws two numbers as the key of a hash of the pixel's index: the noise belongs to the image's position in
    the global batch, and each replica computes only the noise of its own images.

    Args:
        deviation: Smallest and largest standard deviation, within [0, 1].
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the range is empty or out of bounds.
    """

    uniforms = 3
    moves_pixels = False

    def __init__(self, deviation: tuple[float, float] = (0.0, 0.1), **kwargs):
        super().__init__(**kwargs)
        self.deviation = check_range("deviation", deviation, 0.0, 1.0)

    def parameters(self, u, image_shape):
        """`deviation`, float32 (N,), and `keys`, int32 (N, 2)."""
        keys = tf.cast(tf.transpose(u[1:3]) * 2.0**24, tf.int32)  # all random bits that u has
        return {"deviation": between(u[0], self.deviation), "keys": keys}

    def transform(self, planes, parameters):
        """Adds the noise."""
        shape = planes[0].shape[1:]
        noise = [standard_normal(parameters["keys"], math.prod(shape), stream) for stream in range(len(planes))]
        deviation = by_image(parameters["deviation"])
        return [clip(plane + deviation * tf.reshape(n, [-1, *shape])) for plane, n in zip(planes, noise, strict=True)]
