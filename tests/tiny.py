"""The encoder of tests which need some run: the ResNets' stem, a plain and a strided block, so a third of the tracing."""

from simclr_tf.networks.resnet import RESNETS, resnet

RESNETS["tiny"] = ((1, 1), False)


def encoder(image_shape):
    """For `--encoder=tests.tiny:encoder`; 16 numbers."""
    return resnet("tiny", image_shape, width=1 / 8)
