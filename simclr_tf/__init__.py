"""SimCLR (Chen et al., 2020) for Keras 3 on TensorFlow.

The public names are imported when they are first used, so `import simclr_tf` takes no time and no TensorFlow.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_AUGMENTATIONS = (
    "AutoAugment", "ColorJitter", "GaussianBlur", "GaussianNoise", "Invert", "Posterize", "RandomBrightness",
    "RandomContrast", "RandomCrop", "RandomCutout", "RandomFlip", "RandomGrayscale", "RandomHue", "RandomResizedCrop",
    "RandomRotate", "RandomRotate90", "RandomSaturation", "SobelFilter", "Solarize", "TwoViews", "policy", "simclr",
)  # fmt: skip

# Names and the modules that define them.
_HOMES = {
    "Config": "simclr_tf.config",
    "LARS": "simclr_tf.optimizers",
    "Objective": "simclr_tf.objectives",
    "SimCLR": "simclr_tf.tasks.simclr",
    "SyncBatchNormalization": "simclr_tf.networks.normalization",
    "evaluate": "simclr_tf.evaluation",
    "load_encoder": "simclr_tf.encoders",
    "nt_xent": "simclr_tf.objectives",
    "pretrain": "simclr_tf.tasks.pretrain",
    "projection_head": "simclr_tf.networks",
    "resnet": "simclr_tf.networks",
    **dict.fromkeys(_AUGMENTATIONS, "simclr_tf.augment"),
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simclr_tf' has no attribute {name!r}")
    if name != "Config":
        importlib.import_module("simclr_tf.quiet")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
