"""Augmentations as Keras-CV layers, and the two views made with them."""

from simclr_tf.augment.base import Augmentation
from simclr_tf.augment.color import ColorJitter, RandomGrayscale
from simclr_tf.augment.filters import GaussianBlur
from simclr_tf.augment.geometry import RandomFlip, RandomResizedCrop
from simclr_tf.augment.policies import simclr
from simclr_tf.augment.two_views import TwoViews

__all__ = [
    "Augmentation",
    "ColorJitter",
    "GaussianBlur",
    "RandomFlip",
    "RandomGrayscale",
    "RandomResizedCrop",
    "TwoViews",
    "simclr",
]
