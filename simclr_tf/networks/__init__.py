"""The encoder f and the projection head g."""

from simclr_tf.networks.encoders import ENCODERS, make_encoder
from simclr_tf.networks.heads import PROJECTIONS, projection_head, up_to
from simclr_tf.networks.resnet import resnet

__all__ = ["ENCODERS", "PROJECTIONS", "make_encoder", "projection_head", "resnet", "up_to"]
