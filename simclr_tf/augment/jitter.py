"""Color jitter: brightness, contrast, saturation and hue, in an order drawn for each image."""

import tensorflow as tf

from simclr_tf.augment.base import Parameters, Planes, by_image
from simclr_tf.augment.color import ColorAugmentation, adjust, color_factor, hue_turns, mean_luma, shift_hue


class ColorJitter(ColorAugmentation):
    """Changes brightness, contrast, saturation and hue in an order drawn for each image (paper, appendix A).

        brightness:  x <- f x
        contrast:    x <- f x + (1 - f) mean(luma(x))
        saturation:  x <- f x + (1 - f) luma(x)
        hue:         rotated in HSV

    with f uniform in [max(0, 1 - 0.8 s), 1 + 0.8 s] and the rotation uniform in [-0.2 s, 0.2 s] turns; after each, x is
    clipped to [0, 1]. All four are defined as in torchvision's ColorJitter, which the paper's appendix A has in its
    PyTorch form; brightness is added, up to 0.8 s, in its TensorFlow form. The code (google-research/simclr,
    data_util.py) multiplies brightness in "simclrv2", its default, and has the same hue, but the contrast and saturation
    of `tf.image`: contrast keeps the mean of each channel instead of the mean luma, saturation multiplies S of HSV by f.

    Args:
        strength: Strength s within [0, 2.5]; 0 leaves images unchanged.
        probability: Probability that an image is jittered.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the strength is out of range.
    """

    uniforms = 8

    def parameters(self, u, image_shape):
        """Factors and `turns`, float32 (N,), and `place`, int32 (N, 4): of brightness, contrast, saturation, hue."""
        # The ranks of four uniform numbers are a uniform permutation; ties are broken by index.
        order = tf.transpose(u[4:8])
        mine, other = order[:, :, None], order[:, None, :]
        first = (other < mine) | ((other == mine) & (tf.range(4)[None, :] < tf.range(4)[:, None]))
        return {
            "brightness": color_factor(u[0], self.strength),
            "contrast": color_factor(u[1], self.strength),
            "saturation": color_factor(u[2], self.strength),
            "turns": hue_turns(u[3], self.strength),
            "place": tf.reduce_sum(tf.cast(first, tf.int32), axis=-1),
        }

    def transform(self, planes, parameters):
        """Takes two elementwise passes for any order, because only contrast needs a mean.

        The first pass applies the operations before contrast and takes the mean of their result; the second pass
        applies all four. So no intermediate image is written, and XLA fuses each pass into one loop.
        """
        contrast = parameters["place"][:, 1]
        before_contrast = _operate(planes, parameters, contrast, tf.zeros_like(parameters["contrast"]), others=2)
        return _operate(planes, parameters, 4, mean_luma(before_contrast), others=3)


def _operate(planes: Planes, parameters: Parameters, end: tf.Tensor | int, mean: tf.Tensor, others: int) -> Planes:
    """Applies the operations at places below `end`, (N,): those before hue, hue, and those after it.

    Hue is the expensive operation, so it is applied once; the cheap ones, at most `others` of them, are repeated for each
    place around it. Contrast keeps the means `mean`, (N,).
    """
    hue = parameters["place"][:, 3]
    for place in range(others):
        planes = _adjust_at(planes, parameters, place, (place < hue) & (place < end), mean)
    turned = shift_hue(planes, parameters["turns"])
    planes = [tf.where(by_image(hue < end), after, plane) for after, plane in zip(turned, planes, strict=True)]
    for place in range(1, others + 1):
        planes = _adjust_at(planes, parameters, place, (place > hue) & (place < end), mean)
    return planes


def _adjust_at(planes: Planes, parameters: Parameters, place: int, active: tf.Tensor, mean: tf.Tensor) -> Planes:
    """Brightness, contrast or saturation: whichever an image has at this place, if any."""
    brightness, contrast, saturation = (active & (parameters["place"][:, i] == place) for i in range(3))
    factor = tf.where(brightness, parameters["brightness"], 1.0)
    factor = tf.where(contrast, parameters["contrast"], factor)
    factor = tf.where(saturation, parameters["saturation"], factor)
    offset = tf.where(contrast, (1.0 - parameters["contrast"]) * mean, 0.0)
    return adjust(planes, factor, offset, tf.where(saturation, 1.0 - parameters["saturation"], 0.0))
