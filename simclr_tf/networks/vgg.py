"""A plain network without shortcuts, as a base network that is no ResNet.

Configuration A of Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556, as is usual on CIFAR: with batch norm,
and without the fully connected layers, global average pooling in their place.
"""

import keras

from simclr_tf.networks.resnet import channels, convolution

# Channels of the convolutions of each stage; the resolution halves between stages.
VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None) -> keras.Model:
    """VGG-11 as an encoder f: eight 3x3 convolutions, and global average pooling.

    Args:
        image_shape: (H, W, C) of the images, 16 pixels or more.
        width: multiplier of all channels.
        stem: "auto"; the first stage is at full resolution, whatever that is.
        dtype: Keras dtype policy.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: on another stem or smaller images.
    """
    if stem != "auto":
        raise ValueError(f"vgg11 has no choice of stems: leave it at auto. Received: {stem}")
    if min(image_shape[:2]) < 2 ** (len(VGG11) - 1):
        raise ValueError(f"vgg11 takes images of 16 pixels or more. Received: {image_shape}")
    images = keras.Input(image_shape, name="images", dtype="float32")
    x = images
    for stage, widths in enumerate(VGG11, start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool", dtype=dtype)(x)
        for index, filters in enumerate(widths, start=1):
            x = convolution(x, channels(filters, width), 3, 1, f"stage{stage}_{index}", dtype)
    h = keras.layers.GlobalAveragePooling2D(name="representation", dtype="float32")(x)
    return keras.Model(images, h, name="vgg11")
