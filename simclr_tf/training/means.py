"""The means that an epoch reports, saved within the epoch and restored."""

from collections.abc import Mapping

import keras
import tensorflow as tf

Means = Mapping[str, list[float]]  # the values of each metric's variables, the same on all replicas


def collect(model: keras.Model) -> Means:
    """The state of a model's means, as the first replica of this worker has it; all have the same (`Learner.record`)."""
    return {
        metric.name: [float(_replicas(model, variable)[0].numpy()) for variable in metric.variables]
        for metric in model.metrics
    }


def restore(model: keras.Model, means: Means) -> None:
    """Gives a model's means the state that `collect` found, perhaps of a model with another number of replicas."""
    for metric in model.metrics:
        for variable, value in zip(metric.variables, means.get(metric.name, []), strict=False):
            for replica in _replicas(model, variable):
                replica.assign(value)


def _replicas(model: keras.Model, variable: keras.Variable) -> tuple[tf.Variable, ...]:
    """A variable of each replica of this worker: to read or assign the whole takes all workers at once."""
    return model.distribute_strategy.experimental_local_results(variable.value)
