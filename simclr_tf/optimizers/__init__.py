"""Optimizers by name, and the learning-rate schedule."""

from simclr_tf.optimizers.factory import OPTIMIZERS, make_optimizer, peak_learning_rate, prepared, warmup_cosine
from simclr_tf.optimizers.finite import apply_if_finite
from simclr_tf.optimizers.lars import LARS

__all__ = ["LARS", "OPTIMIZERS", "apply_if_finite", "make_optimizer", "peak_learning_rate", "prepared", "warmup_cosine"]
