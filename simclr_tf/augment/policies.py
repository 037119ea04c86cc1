"""Lists of augmentations by name."""

from simclr_tf.augment.base import Augmentation
from simclr_tf.augment.color import ColorJitter, RandomGrayscale
from simclr_tf.augment.filters import GaussianBlur
from simclr_tf.augment.geometry import RandomFlip, RandomResizedCrop


def simclr(color_strength: float = 0.5, blur: bool = False) -> list[Augmentation]:
    """The paper's augmentation (appendix A): crop and resize, flip, color distortion and, on request, blur."""
    layers: list[Augmentation] = [
        RandomResizedCrop(),
        RandomFlip(),
        ColorJitter(color_strength, probability=0.8),
        RandomGrayscale(probability=0.2),
    ]
    return [*layers, GaussianBlur(probability=0.5)] if blur else layers
