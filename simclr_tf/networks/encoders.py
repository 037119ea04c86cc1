"""Encoders f by name.

To add one, write a function of (image_shape, width, stem, dtype) that returns a model of float images in [0, 1] to
float32 vectors, give it a row in `ENCODERS` and its name to `simclr_tf.config.pretraining.ENCODER_NAMES`.
"""

from collections.abc import Callable
from functools import partial

import keras

from simclr_tf.networks.applications import mobilenet_v2
from simclr_tf.networks.imported import imported_encoder
from simclr_tf.networks.resnet import resnet
from simclr_tf.networks.vgg import vgg11

ENCODERS: dict[str, Callable[..., keras.Model]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": partial(resnet, "resnet18"),
    "resnet34": partial(resnet, "resnet34"),
    "resnet50": partial(resnet, "resnet50"),
    "resnet101": partial(resnet, "resnet101"),
    "resnet152": partial(resnet, "resnet152"),
    "resnet200": partial(resnet, "resnet200"),
    "vgg11": vgg11,
}


def make_encoder(
    name: str, image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None
) -> keras.Model:
    """An encoder f by name, or of the user's own.

    Args:
        name: a key of `ENCODERS`, or `module:function` as in `imported_encoder`, which has no width and no stem.
        image_shape: (H, W, C) of the images.
        width: multiplier of all channels.
        stem: "cifar", "imagenet", or "auto", where the network has a choice.
        dtype: Keras dtype policy.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: on an unknown name, a setting that the network does not have, or a model that is no encoder.
    """
    if ":" in name:
        return imported_encoder(name, image_shape, dtype)
    if name not in ENCODERS:
        raise ValueError(f"Expected an encoder of {sorted(ENCODERS)}, or module:function. Received: {name}")
    return ENCODERS[name](image_shape, width, stem, dtype)
