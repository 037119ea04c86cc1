"""A network of `keras.applications`, without its pretrained weights, made fit for small images and for replicas."""

import keras

from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.networks.resnet import has_cifar_stem

# The layers whose strides a small image cannot afford, and the paddings that go with them.
MOBILENET_V2_STRIDES = ("Conv1", "block_1_depthwise")
MOBILENET_V2_PADDINGS = ("block_1_pad",)


def mobilenet_v2(image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None) -> keras.Model:
    """MobileNetV2 as an encoder f (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

    It is `keras.applications.MobileNetV2` with two changes. With the CIFAR stem, the first two of its five strides are
    1, so that 32 pixels become 4, as in a CIFAR ResNet, and not 1. And its batch norms, which know only the images of
    their replica and average over a thousand steps, are `SyncBatchNormalization`: synchronised, with momentum 0.9.

    Args:
        image_shape: (H, W, C) of the images.
        width: multiplier of the channels ("alpha"), which are rounded to multiples of 8; that of the last layer, which
            has 1280, takes effect above 1 only, as in its paper.
        stem: "cifar", "imagenet", or "auto" for the CIFAR stem on images of up to 64 pixels.
        dtype: Keras dtype policy.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: on an unknown stem.
    """
    small = has_cifar_stem(stem, image_shape)
    original = keras.applications.MobileNetV2(
        # Of any size, because it refuses less than 32 pixels, which its strides could not do with.
        (None, None, image_shape[2]), alpha=width, include_top=False, weights=None,
    )  # fmt: skip
    images = keras.Input(image_shape, name="images", dtype="float32")
    network = keras.models.clone_model(
        original,
        input_tensors=images,
        clone_function=lambda layer: _adapted(layer, small, dtype),
        call_function=lambda layer, inputs, **_: layer(inputs),  # Keras' batch norm has a mask, which ours does not
    )
    h = keras.layers.GlobalAveragePooling2D(name="representation", dtype="float32")(network.output)
    return keras.Model(images, h, name="mobilenet_v2")


def _adapted(layer: keras.layers.Layer, small: bool, dtype) -> keras.layers.Layer:
    """A new layer like `layer`."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return SyncBatchNormalization(epsilon=layer.epsilon, name=layer.name, dtype=dtype)
    settings = {**layer.get_config(), "dtype": dtype}
    if small and layer.name in MOBILENET_V2_STRIDES:
        settings["strides"] = (1, 1)
    if small and layer.name in MOBILENET_V2_PADDINGS:
        settings["padding"] = ((1, 1), (1, 1))  # was the one-sided padding of a stride
    return type(layer).from_config(settings)
