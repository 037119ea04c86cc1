"""Augmentations by name: single operators, presets, and the views that settings name."""

from collections.abc import Callable

import keras

from simclr_tf.augment.autoaugment import AutoAugment
from simclr_tf.augment.base import Augmentation
from simclr_tf.augment.color import RandomBrightness, RandomContrast, RandomGrayscale, RandomHue, RandomSaturation
from simclr_tf.augment.crops import RandomCrop, RandomResizedCrop
from simclr_tf.augment.filters import GaussianBlur, GaussianNoise, SobelFilter
from simclr_tf.augment.geometry import RandomCutout, RandomFlip, RandomRotate, RandomRotate90
from simclr_tf.augment.jitter import ColorJitter
from simclr_tf.augment.tones import Invert, Posterize, Solarize
from simclr_tf.augment.two_views import TwoViews

# Each takes the strength of color distortion; those without a strength ignore it.
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
    "random_sobel": lambda strength: SobelFilter(probability=0.5),
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
    "simclr": ("crop", "flip", "jitter", "gray"),  # appendix B.9, for CIFAR-10
    "simclr_blur": ("crop", "flip", "jitter", "gray", "blur"),  # appendix A, for ImageNet
    "supervised": ("shift", "flip"),  # the standard for classifiers on CIFAR-10 (He et al., 2016)
}


def policy(
    augmentations: str = "simclr",
    color_strength: float = 0.5,
    blur: bool = False,
    crop_area: float = 0.08,
    crop_law: str = "paper",
    gray_probability: float = 0.2,
) -> list[keras.Layer]:
    """The layers of a preset or of a list of operators.

    Args:
        augmentations: Name of a preset, or a list such as "crop,flip,jitter". A single name that is both means the
            preset: "autoaugment" also crops and flips.
        color_strength: Strength s of brightness, contrast, saturation, hue and jitter.
        blur: Whether to blur at the end, unless the names contain blur already.
        crop_area: Smallest area of a crop, as a fraction of the image's.
        crop_law: Law of the crops, as in `RandomResizedCrop`.
        gray_probability: Probability that a view is gray.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
    """
    names = PRESETS.get(augmentations) or tuple(augmentations.split(","))
    for name in names:
        if name not in OPERATORS:
            known = sorted({*OPERATORS, *PRESETS})
            raise ValueError(f"`augmentations` must be a preset or a list of operators of {known}. Received: {name}")
    if blur and "blur" not in names:
        names = (*names, "blur")
    area = (crop_area, 1.0)
    adjusted: dict[str, Callable[[], Augmentation]] = {
        "crop": lambda: RandomResizedCrop(area, law=crop_law),
        "crop_bicubic": lambda: RandomResizedCrop(area, method="bicubic", law=crop_law),
        "gray": lambda: RandomGrayscale(gray_probability),
    }
    return [adjusted[name]() if name in adjusted else OPERATORS[name](color_strength) for name in names]


def make_views(
    augmentations: str = "simclr", asymmetric: bool = False, *, seed: int = 0, compiled: bool = True, **settings
) -> TwoViews:
    """The two views described by the settings.

    Args:
        augmentations: Name of a preset, or a list such as "crop,flip,jitter".
        asymmetric: Whether to augment the first view only (the paper's ablation, section 3.1): each image is cropped
            once for both views, so they differ by the augmentations only, including a second crop if there is one.
        seed: Seed of all random draws.
        compiled: Whether XLA compiles the layers.
        **settings: The other arguments of `policy`.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
    """
    layers = policy(augmentations, **settings)
    if not asymmetric:
        return TwoViews(layers, seed, compiled=compiled)
    crop = policy("crop", **settings)[:1]  # without the blur that the settings may add
    return TwoViews(layers, seed, second=[], compiled=compiled, shared=crop)


def simclr(color_strength: float = 0.5, blur: bool = False) -> list[keras.Layer]:
    """The paper's augmentation (appendix A): crop and resize, flip, color distortion and, optionally, blur."""
    return policy("simclr", color_strength, blur)
