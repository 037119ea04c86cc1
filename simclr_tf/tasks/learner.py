"""What the models of all tasks have in common: the means that an epoch reports, without steps that were not finite."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from simclr_tf.distribution import all_sum, num_replicas
from simclr_tf.training.divergence import SKIPPED


class Learner(keras.Model):
    """A model that reports means over the steps of an epoch, and nothing else.

    Args:
        measured: Names of what is measured, the loss first.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(self, measured: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.means = {name: keras.metrics.Mean(name=name) for name in (*measured, SKIPPED)}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means that an epoch reports, without those that Keras would add."""
        return list(self.means.values())

    def record(self, measured: Sequence[tf.Tensor], finite: tf.Tensor | bool = True) -> dict[str, tf.Tensor]:
        """Adds a step to the means, unless it was not finite.

        Args:
            measured: What this replica measured, scalars in the order of the names.
            finite: Whether to count the step, the same on all replicas.

        Returns:
            The means by name, the same on all replicas: so each of them has all of what a checkpoint keeps.
        """
        weight = tf.cast(finite, tf.float32)
        everywhere = tf.unstack(all_sum(tf.stack(measured)) / num_replicas())
        for metric, value in zip(self.metrics, everywhere, strict=False):
            metric.update_state(tf.where(finite, value, tf.zeros_like(value)), weight)
        self.means[SKIPPED].update_state(1.0 - weight)
        shape = [1] if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy) else []
        # Keras averages the logs of several workers along axis 0, which a scalar does not have.
        return {name: tf.reshape(metric.result(), shape) for name, metric in self.means.items()}
