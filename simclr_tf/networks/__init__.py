"""The encoder f and the projection head g."""

from simclr_tf.networks.heads import projection_head
from simclr_tf.networks.resnet import resnet

__all__ = ["projection_head", "resnet"]
