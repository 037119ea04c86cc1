"""Augmentations that filter."""

import tensorflow as tf

from simclr_tf.augment.base import Augmentation


class GaussianBlur(Augmentation):
    """Blurs with a Gaussian of random width (paper, appendix A).

    The standard deviation is uniform in `sigma` pixels and the kernel's side a tenth of the image's, made odd and at
    least 3. Borders are reflected.

    Args:
        sigma: smallest and largest standard deviation, in pixels.
        probability: with which an image is blurred.
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on an empty range.
    """

    uniforms = 1

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), probability: float = 0.5, **kwargs):
        super().__init__(probability, **kwargs)
        if not 0.0 < sigma[0] <= sigma[1]:
            raise ValueError(f"Sigma must be a range of positive numbers. Received: {sigma}")
        self.sigma = tuple(sigma)

    def parameters(self, u, image_shape):
        """`sigma`, float32 (N,), in pixels."""
        return {"sigma": self.sigma[0] + u[0] * (self.sigma[1] - self.sigma[0])}

    def transform(self, images, parameters):
        """Blurs the rows, then the columns."""
        radius = max(1, round(0.05 * max(images.shape[1:3])))
        at = tf.range(-radius, radius + 1, dtype=tf.float32)
        weights = tf.nn.softmax(-0.5 * tf.square(at / parameters["sigma"][:, None]))  # (N, 2 radius + 1)
        return _filter_axis(_filter_axis(images, weights, 1), weights, 2)


def _filter_axis(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Correlates along one axis with each image's own weights, as a sum of shifted images."""
    radius, size = weights.shape[1] // 2, images.shape[axis]
    paddings = [[radius, radius] if i == axis else [0, 0] for i in range(4)]
    padded = tf.pad(images, paddings, mode="REFLECT")
    total = tf.zeros_like(images)
    for k in range(weights.shape[1]):
        shifted = padded[:, k : k + size] if axis == 1 else padded[:, :, k : k + size]
        total += weights[:, k, None, None, None] * shifted
    return total
