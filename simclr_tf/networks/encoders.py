"""Encoders f by name.

To add one, write a function of (image_shape, width, stem, dtype) that returns a model of float images in [0, 1] to
float32 vectors, and add a row to `ENCODERS` and its name to `ENCODER_NAMES` in simclr_tf/config/pretraining.py.
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
    """Makes an encoder f by its name, or by the import path of a user's function.

    Args:
        name: Key of `ENCODERS`, or `module:function` as in `imported_encoder`, which ignores `width` and `stem`.
        image_shape: Shape (H, W, C) of the images.
        width: Multiplier of all channels.
        stem: "cifar", "imagenet", or "auto"; only "auto" for networks with a single stem.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: If `name` is unknown, the network does not support a setting, or the user's model is not an encoder.
    """
    if ":" in name:
        return imported_encoder(name, image_shape, dtype)
    if name not in ENCODERS:
        raise ValueError(f"Expected an encoder of {sorted(ENCODERS)}, or module:function. Received: {name}")
    return ENCODERS[name](image_shape, width, stem, dtype)
