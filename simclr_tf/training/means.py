"""The means that an epoch reports, saved within the epoch and restored."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from simclr_tf.training.epoch_log import scalar

Means = Mapping[str, list[float]]  # the values of each metric's variables, that of one replica on average


def collect(model: keras.Model, logs: Mapping[str, Any] | None, steps: int) -> Means:
    """The state of a model's means after so many steps of an epoch.

    Several workers would have to read the variables together, which a signal to one of them does not allow: there, the
    state is made of the logs, and right to rounding.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return {name: [scalar(value) * steps, float(steps)] for name, value in (logs or {}).items()}
    replicas = strategy.num_replicas_in_sync
    return {
        metric.name: [float(variable.numpy()) / replicas for variable in metric.variables] for metric in model.metrics
    }


def restore(model: keras.Model, means: Means) -> None:
    """Gives a model's means the state that `collect` found, perhaps of a model with another number of replicas."""
    replicas = model.distribute_strategy.num_replicas_in_sync
    for metric in model.metrics:
        for variable, value in zip(metric.variables, means.get(metric.name, []), strict=False):
            variable.assign(value * replicas)  # the strategy divides it among the replicas
