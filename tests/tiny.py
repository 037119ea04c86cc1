"""The encoder of tests which need some run: the ResNets' stem, a plain and a strided block, so a third of the tracing."""

import keras

from simclr_tf.networks.resnet import RESNETS, resnet

RESNETS["tiny"], RESNETS["tiny_bottlenecks"] = ((1, 1), False), ((1, 1), True)


def encoder(image_shape):
    """For `--encoder=tests.tiny:encoder`; 16 numbers."""
    return resnet("tiny", image_shape, width=1 / 8)


def wide(image_shape):
    """The same of twice the channels; 32 numbers."""
    return resnet("tiny", image_shape, width=1 / 4)


def foreign_norm(image_shape):
    """An encoder with batch norm of Keras' own; 4 numbers."""
    x = images = keras.Input(image_shape)
    for part in (keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()):
        x = part(x)
    return keras.Model(images, x)


def bottlenecks(image_shape):
    """The same of ResNet-50's blocks; 64 numbers."""
    return resnet("tiny_bottlenecks", image_shape, width=1 / 8)
