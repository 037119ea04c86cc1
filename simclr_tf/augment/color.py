"""Augmentations of color."""

import tensorflow as tf

from simclr_tf.augment.base import Augmentation

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL, torchvision and TensorFlow have it


def luma(images: tf.Tensor) -> tf.Tensor:
    """The gray value of each pixel, (N, H, W, 1)."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = tf.split(images, 3, axis=-1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def shift_hue(images: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """Turns the hue of each pixel, keeping its value and saturation (HSV).

    Args:
        images: (N, H, W, 3) in [0, 1].
        turns: (N, 1, 1, 1), in turns of the color wheel.

    Returns:
        (N, H, W, 3) in [0, 1].
    """
    red, green, blue = tf.split(images, 3, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    scale = tf.where(chroma > 0.0, 1.0 / tf.where(chroma > 0.0, chroma, 1.0), 0.0)
    sixths = tf.where(
        value == red,
        (green - blue) * scale,
        tf.where(value == green, (blue - red) * scale + 2.0, (red - green) * scale + 4.0),
    )
    sixths += 6.0 * turns

    def channel(offset):
        k = sixths + offset
        k -= 6.0 * tf.floor(k / 6.0)
        return value - chroma * tf.clip_by_value(tf.minimum(k, 4.0 - k), 0.0, 1.0)

    return tf.concat([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def _by_image(x: tf.Tensor) -> tf.Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return x[:, None, None, None]


class ColorJitter(Augmentation):
    """Changes brightness, contrast, saturation and hue, in an order drawn for each image (paper, appendix A).

        brightness:  x <- f x
        contrast:    x <- f x + (1 - f) mean(luma(x))
        saturation:  x <- f x + (1 - f) luma(x)
        hue:         turned by an angle in HSV

    with f uniform in [max(0, 1 - 0.8 s), 1 + 0.8 s] and the turn uniform in [-0.2 s, 0.2 s]; after each, x is clipped
    to [0, 1]. These are the definitions of the paper's code (version 2) and of torchvision's ColorJitter.

    Args:
        strength: s; 0 leaves images as they are.
        probability: with which an image is jittered.
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on a negative strength, or one above 2.5, where the hue has gone round.
    """

    uniforms = 8

    def __init__(self, strength: float = 0.5, probability: float = 0.8, **kwargs):
        super().__init__(probability, **kwargs)
        if not 0.0 <= strength <= 2.5:
            raise ValueError(f"The strength must lie between 0 and 2.5. Received: {strength}")
        self.strength = strength

    def parameters(self, u, image_shape):
        """Factors and turn, float32 (N,), and `order`, (N, 4): which operation comes at each of four places."""
        low, high = max(0.0, 1.0 - 0.8 * self.strength), 1.0 + 0.8 * self.strength
        factors = low + u[:3] * (high - low)
        return {
            "brightness": factors[0],
            "contrast": factors[1],
            "saturation": factors[2],
            "turns": (2.0 * u[3] - 1.0) * 0.2 * self.strength,
            # The ranks of four uniform numbers are a uniform permutation.
            "order": tf.argsort(tf.transpose(u[4:8]), axis=-1),
        }

    def transform(self, images, parameters):
        """Goes through the four places; at each, an image takes the operation that its order names."""
        for place in range(4):
            images = self._operate(images, parameters, parameters["order"][:, place])
        return images

    @staticmethod
    def _operate(images, parameters, operation):
        """One operation an image: 0 brightness, 1 contrast, 2 saturation, 3 hue.

        The first three are one affine map, f x + (1 - f) anchor, so they cost one pass and not three.
        """
        factor = tf.where(operation == 0, parameters["brightness"], 1.0)
        factor = tf.where(operation == 1, parameters["contrast"], factor)
        factor = _by_image(tf.where(operation == 2, parameters["saturation"], factor))
        gray = luma(images)
        anchor = tf.where(_by_image(operation == 1), tf.reduce_mean(gray, axis=[1, 2, 3], keepdims=True), 0.0)
        anchor = tf.where(_by_image(operation == 2), gray, anchor)
        outputs = tf.clip_by_value(factor * images + (1.0 - factor) * anchor, 0.0, 1.0)
        if images.shape[-1] == 1:
            return outputs
        hue = _by_image(operation == 3)
        return tf.where(hue, shift_hue(images, _by_image(parameters["turns"])), outputs)


class RandomGrayscale(Augmentation):
    """Replaces the color of images by its luma, by default in a fifth of them ("color drop")."""

    def __init__(self, probability: float = 0.2, **kwargs):
        super().__init__(probability, **kwargs)

    def parameters(self, u, image_shape):
        """None besides being chosen."""
        return {}

    def transform(self, images, parameters):
        """Drops the color."""
        return tf.broadcast_to(luma(images), tf.shape(images))
