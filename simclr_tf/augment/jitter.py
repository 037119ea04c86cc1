"""Color jitter: brightness, contrast, saturation and hue, in an order drawn for each image."""

from collections.abc import Iterable

import tensorflow as tf

from simclr_tf.augment.base import Parameters, Planes, by_image
from simclr_tf.augment.color import ColorAugmentation, adjust, color_factor, hue_turns, mean_luma, shift_hue

OPERATIONS = ("brightness", "contrast", "saturation", "hue")


class ColorJitter(ColorAugmentation):
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

    def parameters(self, u, image_shape):
        """Factors and turn, float32 (N,), and `place`, int32 (N, 4): when each of `OPERATIONS` comes."""
        # The ranks of four uniform numbers are a uniform permutation; equal numbers go by their index.
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
        """Two elementwise passes, whatever the orders: only contrast needs a mean, of what precedes it.

        The first pass applies what precedes contrast and takes that mean, the second applies all. So nothing is
        written in between, and XLA fuses each pass into one loop.
        """
        contrast = parameters["place"][:, 1]
        before_contrast = _operate(planes, parameters, contrast, tf.zeros_like(parameters["contrast"]), (0, 1), (1, 2))
        return _operate(planes, parameters, 4, mean_luma(before_contrast), (0, 1, 2), (1, 2, 3))


def _operate(
    planes: Planes,
    parameters: Parameters,
    end: tf.Tensor | int,
    mean: tf.Tensor,
    before_hue: Iterable[int],
    after_hue: Iterable[int],
) -> Planes:
    """The operations at places below `end`, those before hue, hue, and those after it.

    Hue is the dear one: it stands once in this sequence, and the cheap operations at each place before and after it.

    Args:
        planes: C planes (N, H, W).
        parameters: of `ColorJitter`.
        end: (N,), the first place that is left out.
        mean: (N,), the anchor of contrast.
        before_hue: places that other operations can have before hue.
        after_hue: likewise after hue.
    """
    hue = parameters["place"][:, 3]
    for place in before_hue:
        planes = _adjust_at(planes, parameters, place, (place < hue) & (place < end), mean)
    turned = shift_hue(planes, parameters["turns"])
    planes = [tf.where(by_image(hue < end), after, plane) for after, plane in zip(turned, planes, strict=True)]
    for place in after_hue:
        planes = _adjust_at(planes, parameters, place, (place > hue) & (place < end), mean)
    return planes


def _adjust_at(planes: Planes, parameters: Parameters, place: int, active: tf.Tensor, mean: tf.Tensor) -> Planes:
    """Brightness, contrast or saturation: whichever an image has at this place, or nothing."""
    brightness, contrast, saturation = (active & (parameters["place"][:, i] == place) for i in range(3))
    factor = tf.where(brightness, parameters["brightness"], 1.0)
    factor = tf.where(contrast, parameters["contrast"], factor)
    factor = tf.where(saturation, parameters["saturation"], factor)
    offset = tf.where(contrast, (1.0 - parameters["contrast"]) * mean, 0.0)
    return adjust(planes, factor, offset, tf.where(saturation, 1.0 - parameters["saturation"], 0.0))
