"""Contrastive losses."""

from simclr_tf.objectives.losses import Contrast, nt_xent

__all__ = ["Contrast", "nt_xent"]
