"""VGG-11, a plain network without shortcuts.

Configuration A of Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556, in its usual form for CIFAR: with batch
norm, and with global average pooling instead of the fully connected layers.
"""

import keras

from simclr_tf.networks.resnet import channels, convolution

# Channels of each stage's convolutions; max-pooling halves the resolution between stages.
VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None) -> keras.Model:
    """Makes a VGG-11 encoder f: eight 3x3 convolutions and global average pooling.

    Args:
        image_shape: Shape (H, W, C) of the images, at least 16 x 16 pixels.
        width: Multiplier of all channels.
        stem: "auto"; the first stage always has the full resolution.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: If `stem` is not "auto" or the images are smaller.
    """
    if stem != "auto":
        raise ValueError(f"vgg11 has a single stem: `stem` must be auto. Received: {stem}")
    if min(image_shape[:2]) < 2 ** (len(VGG11) - 1):
        raise ValueError(f"vgg11 takes images of at least 16 x 16 pixels. Received: {image_shape}")
    images = keras.Input(image_shape, name="images", dtype="float32")
    x = images
    for stage, widths in enumerate(VGG11, start=1):
        if stage > 1:
            x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool", dtype=dtype)(x)
        for index, filters in enumerate(widths, start=1):
            x = convolution(x, channels(filters, width), 3, 1, f"stage{stage}_{index}", dtype)
    h = keras.layers.GlobalAveragePooling2D(name="representation", dtype="float32")(x)
    return keras.Model(images, h, name="vgg11")
