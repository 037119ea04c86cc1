"""Replicas and workers: the strategy, its collectives, and several processes that train together."""

from simclr_tf.distribution.collectives import all_stack, all_sum, num_replicas, replica_id
from simclr_tf.distribution.precision import best_precision
from simclr_tf.distribution.strategy import describe, devices, make_strategy, notes, on_several_gpus
from simclr_tf.distribution.workers import (
    LostWorkerError,
    is_chief,
    naming_lost_workers,
    num_workers,
    require_agreement,
    wait_for_workers,
)  # fmt: skip

__all__ = [
    "LostWorkerError", "all_stack", "all_sum", "best_precision", "describe", "devices", "is_chief", "make_strategy",
    "naming_lost_workers", "notes", "num_replicas", "num_workers", "on_several_gpus", "replica_id", "require_agreement",
    "wait_for_workers",
]  # fmt: skip
