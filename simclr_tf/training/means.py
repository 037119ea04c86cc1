"""The means that an epoch reports, saved within the epoch and restored."""

from collections.abc import Mapping

import keras
import tensorflow as tf

Means = Mapping[str, list[float]]  # the values of each metric's variables, those of one replica


def collect(model: keras.Model) -> Means:
    """The state of a model's means: that of all its replicas, where it is the same (`Learner.record`), else the average.

    Only the replicas of this worker are asked, since to read a variable as a whole takes all workers at once.
    """
    return {metric.name: [_average(model, variable) for variable in metric.variables] for metric in model.metrics}


def restore(model: keras.Model, means: Means) -> None:
    """Gives a model's means the state that `collect` found, perhaps of a model with another number of replicas."""
    for metric in model.metrics:
        for variable, value in zip(metric.variables, means.get(metric.name, []), strict=False):
            for replica in _replicas(model, variable):
                replica.assign(value)


def _average(model: keras.Model, variable: keras.Variable) -> float:
    values = [float(replica.numpy()) for replica in _replicas(model, variable)]
    return sum(values) / len(values)  # in float64, so equal ones keep their bits


def _replicas(model: keras.Model, variable: keras.Variable) -> tuple[tf.Variable, ...]:
    return model.distribute_strategy.experimental_local_results(variable.value)
