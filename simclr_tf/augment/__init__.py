"""Augmentations as Keras-CV layers, and the two views made with them."""

import keras

from simclr_tf.augment.autoaugment import AutoAugment
from simclr_tf.augment.base import Augmentation
from simclr_tf.augment.color import RandomBrightness, RandomContrast, RandomGrayscale, RandomHue, RandomSaturation
from simclr_tf.augment.crops import RandomCrop, RandomResizedCrop
from simclr_tf.augment.cuts import VALIDATION_STEP
from simclr_tf.augment.filters import GaussianBlur, GaussianNoise, SobelFilter
from simclr_tf.augment.geometry import RandomCutout, RandomFlip, RandomRotate, RandomRotate90
from simclr_tf.augment.jitter import ColorJitter
from simclr_tf.augment.policies import OPERATORS, PRESETS, make_views, policy, simclr
from simclr_tf.augment.tones import Invert, Posterize, Solarize
from simclr_tf.augment.two_views import TwoViews

__all__ = [
    "OPERATORS", "PRESETS", "VALIDATION_STEP", "Augmentation", "AutoAugment", "ColorJitter", "GaussianBlur",
    "GaussianNoise", "Invert", "Posterize", "RandomBrightness", "RandomContrast", "RandomCrop", "RandomCutout",
    "RandomFlip", "RandomGrayscale", "RandomHue", "RandomResizedCrop", "RandomRotate", "RandomRotate90",
    "RandomSaturation", "SobelFilter", "Solarize", "TwoViews", "make_views", "policy", "simclr",
]  # fmt: skip

# A saved model names its augmentations as "simclr_tf>RandomFlip".
for _name in __all__:
    if isinstance(globals()[_name], type):
        keras.saving.register_keras_serializable("simclr_tf")(globals()[_name])
