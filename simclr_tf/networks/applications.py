"""MobileNetV2 from `keras.applications`, without pretrained weights, adapted to small images and to replicas."""

import keras

from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.networks.resnet import has_cifar_stem

# The strides that small images cannot afford, and the paddings that go with them.
MOBILENET_V2_STRIDES = ("Conv1", "block_1_depthwise")
MOBILENET_V2_PADDINGS = ("block_1_pad",)


def mobilenet_v2(image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None) -> keras.Model:
    """MobileNetV2 as an encoder f (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

    This is `keras.applications.MobileNetV2` with two changes. With the CIFAR stem, the first two of its five strides are
    1, so that 32 pixels become 4, as in a CIFAR ResNet, instead of 1. Its batch norms, which see only the images of their
    replica and average over a thousand steps, become `SyncBatchNormalization` with momentum 0.9.

    Args:
        image_shape: Shape (H, W, C) of the images.
        width: Multiplier of the channels ("alpha"), rounded to multiples of 8. As in the paper, the 1280 channels of the
            last layer grow with it above 1 but do not shrink below.
        stem: "cifar", "imagenet", or "auto" for the CIFAR stem on images of up to 64 pixels.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: If `stem` is unknown.
    """
    small = has_cifar_stem(stem, image_shape)
    # It refuses images of less than 32 pixels, too small for its original strides; larger ones decide its padding.
    sides = (None, None) if small or min(image_shape[:2]) < 32 else image_shape[:2]
    original = keras.applications.MobileNetV2(
        (*sides, image_shape[2]), alpha=width, include_top=False, weights=None,
    )  # fmt: skip
    images = keras.Input(image_shape, name="images", dtype="float32")
    network = keras.models.clone_model(
        original,
        input_tensors=images,
        clone_function=lambda layer: _adapted(layer, small, dtype),
        call_function=lambda layer, inputs, **_: layer(inputs),  # Keras' batch norm takes a mask, ours does not
    )
    h = keras.layers.GlobalAveragePooling2D(name="representation", dtype="float32")(network.output)
    return keras.Model(images, h, name="mobilenet_v2")


def _adapted(layer: keras.layers.Layer, small: bool, dtype) -> keras.layers.Layer:
    """A copy of a layer, with our changes."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return SyncBatchNormalization(epsilon=layer.epsilon, name=layer.name, dtype=dtype)
    settings = {**layer.get_config(), "dtype": dtype}
    if small and layer.name in MOBILENET_V2_STRIDES:
        settings["strides"] = (1, 1)
    if small and layer.name in MOBILENET_V2_PADDINGS:
        settings["padding"] = ((1, 1), (1, 1))  # the original pads one side, for a stride of 2
    return type(layer).from_config(settings)
