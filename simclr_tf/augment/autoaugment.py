"""AutoAugment: the policy learned on CIFAR-10, applied to a whole batch at once."""

from collections.abc import Callable

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, Parameters, Planes, by_image, clip
from simclr_tf.augment.color import luma, mean_luma
from simclr_tf.augment.geometry import rotation, warp
from simclr_tf.augment.histogram import autocontrast, equalize
from simclr_tf.augment.tones import posterize, solarize

# (operation, probability, magnitude) twice: Cubuk et al., 2019, "AutoAugment", table 7. Magnitudes are levels 0 to 9.
CIFAR10_POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)

LEVELS = 9

# Magnitude at level 9 (0 at level 0), and whether its sign is random. Translations are fractions of the side, angles in
# radians, enhancements distances of the factor from 1, posterize counts lost bits, solarize lowers the threshold.
RANGES = {
    "autocontrast": (0.0, False),
    "brightness": (0.9, True),
    "color": (0.9, True),
    "contrast": (0.9, True),
    "equalize": (0.0, False),
    "invert": (0.0, False),
    "posterize": (4.0, False),
    "rotate": (0.5235987755982988, True),  # 30 degrees
    "sharpness": (0.9, True),
    "shear_y": (0.3, True),
    "solarize": (1.0, False),
    "translate_x": (150 / 331, True),
    "translate_y": (150 / 331, True),
}
OPERATIONS = tuple(RANGES)
NOTHING = len(OPERATIONS)

FILL = 128 / 255  # value of pixels from outside the image


class AutoAugment(Augmentation):
    """Applies one of 25 pairs of operations, drawn for each image (Cubuk et al., 2019).

    Each operation of the pair is applied with its own probability and magnitude, whose sign, if it has one, is random.
    Operations are those of PIL: nearest-neighbor warps filled with gray, enhancements about PIL's anchors. The
    policy is the authors'; the ranges of the magnitudes are those that PyTorch users know from torchvision. In the authors'
    code (tensorflow/models, augmentation_transforms.py) an enhancement's factor is 0.1 + 0.18 level and has no random sign,
    a translation is level pixels of 32, and posterizing keeps 4 - 0.4 level bits.

    Every image passes through all operations, with magnitudes that turn all but its own into the identity. This is more
    arithmetic, but a single program without branches for the whole batch.

    Args:
        probability: Probability that an image is transformed at all.
        **kwargs: Arguments of `Augmentation`.
    """

    uniforms = 5
    reads_neighbors = True

    def parameters(self, u, image_shape):
        """`operation`, int32 (N, 2), an index of `OPERATIONS` or `NOTHING`, and `magnitude`, float32 (N, 2)."""
        pair = tf.cast(tf.floor(u[0] * len(CIFAR10_POLICY)), tf.int32)

        def of_pair(value: Callable) -> tf.Tensor:
            return tf.gather([[value(*step) for step in steps] for steps in CIFAR10_POLICY], pair)  # (N, 2)

        operation = of_pair(lambda name, *_: OPERATIONS.index(name))
        chance = of_pair(lambda name, chance, level: chance)
        magnitude = of_pair(lambda name, chance, level: _magnitude(name, level))
        signed = of_pair(lambda name, *_: RANGES[name][1])
        happens, negative = tf.transpose(u[1:3]) < chance, tf.transpose(u[3:5]) < 0.5
        return {
            "operation": tf.where(happens, operation, NOTHING),
            "magnitude": tf.where(signed & negative, -magnitude, magnitude),
        }

    def transform(self, planes, parameters):
        """Applies both operations of the pair in order."""
        for place in range(2):
            planes = operate(planes, parameters["operation"][:, place], parameters["magnitude"][:, place])
        return planes


def _magnitude(name: str, level: int) -> float:
    magnitude = RANGES[name][0] * level / LEVELS
    return float(round(magnitude)) if name == "posterize" else magnitude


def operate(planes: Planes, operation: tf.Tensor, magnitude: tf.Tensor) -> Planes:
    """Applies one of `OPERATIONS`, or `NOTHING`, to each image: their indices, (N,), and magnitudes as in `RANGES`."""
    magnitudes = {name: tf.where(operation == index, magnitude, 0.0) for index, name in enumerate(OPERATIONS)}
    # A crop may round to just above 1, where solarize would invert what it leaves alone.
    planes = [clip(plane) for plane in planes]
    changes = {
        "equalize": equalize,
        "autocontrast": autocontrast,
        "sharpness": lambda plane: _sharpen(plane, magnitudes["sharpness"]),
        "invert": lambda plane: 1.0 - plane,
    }
    for name, change in changes.items():
        chosen = by_image(operation == OPERATIONS.index(name))
        planes = [tf.where(chosen, change(plane), plane) for plane in planes]
    planes = [solarize(plane, 1.0 - magnitudes["solarize"]) for plane in planes]
    planes = [posterize(plane, 8.0 - magnitudes["posterize"]) for plane in planes]
    return _move(_enhance(planes, magnitudes), magnitudes)


def _enhance(planes: Planes, magnitudes: Parameters) -> Planes:
    """Brightness, contrast and color (saturation): clip((1 + m) x - m anchor), the anchor being black, the mean or gray."""
    factor = 1.0 + magnitudes["brightness"] + magnitudes["contrast"] + magnitudes["color"]
    anchor = by_image(magnitudes["contrast"] * mean_luma(planes)) + by_image(magnitudes["color"]) * luma(planes)
    return [clip(by_image(factor) * plane - anchor) for plane in planes]


def _move(planes: Planes, magnitudes: Parameters) -> Planes:
    """Rotation about the center, shear and translation; at most one of them is not the identity."""
    height, width = planes[0].shape[1:]
    rows, columns = rotation(magnitudes["rotate"], height, width)
    across = tf.range(width, dtype=tf.float32) + 0.5
    rows += by_image(magnitudes["shear_y"]) * across + by_image(magnitudes["translate_y"] * height)
    columns += by_image(magnitudes["translate_x"] * width)
    return warp(planes, rows, columns, method="nearest", fill=FILL)


def _sharpen(plane: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
    """clip((1 + m) x - m smooth(x)), smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13, the border unchanged."""
    if min(plane.shape[1:]) < 3:  # nothing but border
        return plane
    three = plane[:, :, :-2] + plane[:, :, 1:-1] + plane[:, :, 2:]
    nine = three[:, :-2] + three[:, 1:-1] + three[:, 2:]
    inner = (nine + 4.0 * plane[:, 1:-1, 1:-1]) / 13.0 - plane[:, 1:-1, 1:-1]
    return clip(plane - by_image(magnitude) * tf.pad(inner, [[0, 0], [1, 1], [1, 1]]))
