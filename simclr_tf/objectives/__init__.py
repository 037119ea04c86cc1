"""Contrastive losses and similarities."""

from simclr_tf.objectives.losses import LOSSES
from simclr_tf.objectives.objective import Contrast, Objective, make_objective, nt_xent
from simclr_tf.objectives.similarity import SIMILARITIES

__all__ = ["LOSSES", "SIMILARITIES", "Contrast", "Objective", "make_objective", "nt_xent"]
