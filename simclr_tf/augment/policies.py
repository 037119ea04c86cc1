"""Augmentations by name: single operators, presets, and the views that settings name."""

from collections.abc import Callable

import keras

from simclr_tf.augment.autoaugment import AutoAugment
from simclr_tf.augment.base import Augmentation
from simclr_tf.augment.color import (
    RandomBrightness,
    RandomContrast,
    RandomGrayscale,
    RandomHue,
    RandomSaturation,
)
from simclr_tf.augment.crops import RandomCrop, RandomResizedCrop
from simclr_tf.augment.filters import GaussianBlur, GaussianNoise, SobelFilter
from simclr_tf.augment.geometry import RandomCutout, RandomFlip, RandomRotate, RandomRotate90
from simclr_tf.augment.jitter import ColorJitter
from simclr_tf.augment.tones import Invert, Posterize, Solarize
from simclr_tf.augment.two_views import TwoViews

# Each from the strength of color distortion, which the others ignore.
OPERATORS: dict[str, Callable[[float], Augmentation]] = {
    "autoaugment": lambda strength: AutoAugment(),
    "blur": lambda strength: GaussianBlur(),
    "brightness": lambda strength: RandomBrightness(strength),
    "contrast": lambda strength: RandomContrast(strength),
    "crop": lambda strength: RandomResizedCrop(),
    "crop_bicubic": lambda strength: RandomResizedCrop(method="bicubic"),
    "cutout": lambda strength: RandomCutout(),
    "flip": lambda strength: RandomFlip(),
    "gray": lambda strength: RandomGrayscale(),
    "hue": lambda strength: RandomHue(strength),
    "invert": lambda strength: Invert(),
    "jitter": lambda strength: ColorJitter(strength),
    "noise": lambda strength: GaussianNoise(),
    "posterize": lambda strength: Posterize(),
    "rotate": lambda strength: RandomRotate(),
    "rotate90": lambda strength: RandomRotate90(),
    "saturation": lambda strength: RandomSaturation(strength),
    "shift": lambda strength: RandomCrop(),
    "sobel": lambda strength: SobelFilter(),
    "solarize": lambda strength: Solarize(),
}

PRESETS: dict[str, tuple[str, ...]] = {
    "autoaugment": ("crop", "flip", "autoaugment"),
    "color_only": ("jitter", "gray"),
    "crop_only": ("crop",),
    "simclr": ("crop", "flip", "jitter", "gray"),  # appendix A, for CIFAR-10
    "simclr_blur": ("crop", "flip", "jitter", "gray", "blur"),  # appendix A, for ImageNet
    "supervised": ("shift", "flip"),  # the usual one for classifiers on CIFAR-10 (He et al., 2016)
}


def names_of(augmentations: str) -> tuple[str, ...]:
    """The operators that a preset's name, or a list like "crop,flip,jitter", stands for.

    A name by itself is a preset's where it is one: "autoaugment" crops and flips, too.

    Raises:
        ValueError: on an unknown name.
    """
    if augmentations in PRESETS:
        return PRESETS[augmentations]
    names = tuple(augmentations.split(","))
    for name in names:
        if name not in OPERATORS:
            known = sorted({*OPERATORS, *PRESETS})
            raise ValueError(f"Augmentations must be a preset or a list of operators of {known}. Received: {name}")
    return names


def policy(augmentations: str = "simclr", color_strength: float = 0.5, blur: bool = False) -> list[keras.Layer]:
    """The layers that a preset or a list of names stands for.

    Args:
        augmentations: as in `names_of`.
        color_strength: s of brightness, contrast, saturation, hue and jitter.
        blur: whether to blur at the end, where the names do not say so already.

    Raises:
        ValueError: on an unknown name or a bad strength.
    """
    names = names_of(augmentations)
    if blur and "blur" not in names:
        names = (*names, "blur")
    return [OPERATORS[name](color_strength) for name in names]


def make_views(
    augmentations: str = "simclr",
    asymmetric: bool = False,
    color_strength: float = 0.5,
    blur: bool = False,
    seed: int = 0,
    compiled: bool = True,
) -> TwoViews:
    """The two views that settings name.

    Args:
        augmentations: as in `names_of`.
        asymmetric: the paper's ablation (section 3.1): each image is cropped once, then the first view is augmented and
            the second left as it is. The two differ by the augmentations only, a second crop among them where they
            have one.
        color_strength: as in `policy`.
        blur: as in `policy`.
        seed: of all draws.
        compiled: whether XLA compiles them.

    Raises:
        ValueError: on an unknown name or a bad strength.
    """
    layers = policy(augmentations, color_strength, blur)
    if asymmetric:
        return TwoViews(layers, seed, [], compiled, shared=[RandomResizedCrop()])
    return TwoViews(layers, seed, compiled=compiled)


def simclr(color_strength: float = 0.5, blur: bool = False) -> list[keras.Layer]:
    """The paper's augmentation (appendix A): crop and resize, flip, color distortion and, on request, blur."""
    return policy("simclr_blur" if blur else "simclr", color_strength)
