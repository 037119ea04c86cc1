"""Loss scaling for float16, whose smallest gradients would vanish."""

import keras
import tensorflow as tf

from simclr_tf.distribution import all_sum


@keras.saving.register_keras_serializable("simclr_tf")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Scales the loss up and gradients down, and skips steps whose gradients overflowed.

    Keras' own differs in two things that matter here. It lets each replica judge by its own part of the gradients: where
    only one of them overflowed, some would take the step and others not. And it does not count the steps that it skips;
    but the views of a step and the continuation of a run are functions of its number. The learning rate follows the
    steps that were taken.

    Args: those of `keras.optimizers.LossScaleOptimizer`.
    """

    @property
    def iterations(self):
        """All steps, also the skipped ones."""
        return self._iterations

    def apply(self, grads, trainable_variables=None):
        """Takes the step, or skips it."""
        self._iterations.assign_add(1)
        super().apply(grads, trainable_variables)

    def check_finite(self, grads):
        """Whether the gradients of all replicas are finite."""
        overflowed = tf.logical_not(super().check_finite(grads))
        return tf.equal(all_sum(tf.cast(overflowed, tf.float32)), 0.0)
