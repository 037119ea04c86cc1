"""Augmentations of color, one at a time; `jitter.py` combines them.

The strength s is the paper's (appendix A, PyTorch form): factors are uniform in [max(0, 1 - 0.8 s), 1 + 0.8 s], hue
rotations uniform in [-0.2 s, 0.2 s] turns of the color wheel.
"""

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, Planes, between, by_image, check_number, clip

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in PIL, torchvision and TensorFlow

STRONGEST = 2.5  # hue rotations then cover the whole color wheel


def luma(planes: Planes) -> tf.Tensor:
    """The gray value of each pixel, (N, H, W)."""
    if len(planes) == 1:
        return planes[0]
    return LUMA[0] * planes[0] + LUMA[1] * planes[1] + LUMA[2] * planes[2]


def mean_luma(planes: Planes) -> tf.Tensor:
    """The mean gray value of each image, (N,)."""
    return tf.reduce_mean(luma(planes), axis=[1, 2])


def adjust(planes: Planes, factor: tf.Tensor, offset: tf.Tensor, gray: tf.Tensor) -> Planes:
    """clip(factor x + offset + gray luma(x)), the three being (N,): brightness, contrast, saturation are special cases."""
    shade = by_image(offset) + by_image(gray) * luma(planes)
    return [clip(by_image(factor) * plane + shade) for plane in planes]


def shift_hue(planes: Planes, turns: tf.Tensor) -> Planes:
    """Rotates hues by `turns` of the color wheel, (N,), at the same value and saturation (HSV); gray is unchanged."""
    if len(planes) == 1:
        return planes
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    # In sixths of a turn: red at 0, green at 2, blue at 4. With the division last, XLA fuses all of this into one loop and
    # the policy takes 10 % less time than with a reciprocal first. Without chroma the numerator is 0.
    sixths = tf.where(
        value == red,
        green - blue,
        tf.where(value == green, blue - red + 2.0 * chroma, red - green + 4.0 * chroma),
    ) / tf.maximum(chroma, 1e-12) + 6.0 * by_image(turns)
    sixths -= 6.0 * tf.floor(sixths / 6.0)  # in [0, 6)
    # Each primary as a function of the hue: a trapezoid of height 1 around its own place.
    heights = (tf.abs(sixths - 3.0) - 1.0, 2.0 - tf.abs(sixths - 2.0), 2.0 - tf.abs(sixths - 4.0))
    return [value - chroma * (1.0 - clip(height)) for height in heights]


def color_factor(u: tf.Tensor, strength: float) -> tf.Tensor:
    """Uniform in [max(0, 1 - 0.8 s), 1 + 0.8 s]."""
    return between(u, (max(0.0, 1.0 - 0.8 * strength), 1.0 + 0.8 * strength))


def hue_turns(u: tf.Tensor, strength: float) -> tf.Tensor:
    """Uniform in [-0.2 s, 0.2 s]."""
    return (2.0 * u - 1.0) * 0.2 * strength


class ColorAugmentation(Augmentation):
    """A change of color with the paper's strength.

    Args:
        strength: Strength s within [0, 2.5]; 0 leaves images unchanged.
        probability: Probability that an image is changed.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the strength is out of range.
    """

    moves_pixels = False

    def __init__(self, strength: float = 0.5, probability: float = 0.8, **kwargs):
        check_number("strength", strength, 0.0, STRONGEST)
        # At strength 0 images stay exactly as they are, without rounding errors.
        super().__init__(probability if strength > 0.0 else 0.0, **kwargs)
        self.strength = strength


class _Factor(ColorAugmentation):
    """A color augmentation with one factor for each image."""

    uniforms = 1

    def parameters(self, u, image_shape):
        """`factor`, float32 (N,)."""
        return {"factor": color_factor(u[0], self.strength)}


class RandomBrightness(_Factor):
    """x <- clip(f x)."""

    def transform(self, planes, parameters):
        """Brightens or darkens."""
        return [clip(by_image(parameters["factor"]) * plane) for plane in planes]


class RandomContrast(_Factor):
    """x <- clip(f x + (1 - f) mean(luma(x)))."""

    def transform(self, planes, parameters):
        """Moves all pixels toward their mean, or away from it."""
        factor = parameters["factor"]
        return adjust(planes, factor, (1.0 - factor) * mean_luma(planes), tf.zeros_like(factor))


class RandomSaturation(_Factor):
    """x <- clip(f x + (1 - f) luma(x))."""

    def transform(self, planes, parameters):
        """Moves each pixel toward its gray value, or away from it; gray images are unchanged."""
        if len(planes) == 1:
            return planes
        factor = parameters["factor"]
        return adjust(planes, factor, tf.zeros_like(factor), 1.0 - factor)


class RandomHue(ColorAugmentation):
    """Rotates the hue in HSV."""

    uniforms = 1

    def parameters(self, u, image_shape):
        """`turns`, float32 (N,), in turns of the color wheel."""
        return {"turns": hue_turns(u[0], self.strength)}

    def transform(self, planes, parameters):
        """Rotates the hue."""
        return shift_hue(planes, parameters["turns"])


class RandomGrayscale(Augmentation):
    """Replaces the color of images by its luma, by default in a fifth of them ("color drop")."""

    moves_pixels = False

    def __init__(self, probability: float = 0.2, **kwargs):
        super().__init__(probability, **kwargs)

    def transform(self, planes, parameters):
        """Drops the color."""
        return [luma(planes)] * len(planes)
