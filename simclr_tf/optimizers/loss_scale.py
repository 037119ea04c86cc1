"""Loss scaling for float16, in which the smallest gradients would vanish."""

import keras
import tensorflow as tf

from simclr_tf.distribution import all_sum


@keras.saving.register_keras_serializable("simclr_tf")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Scales the loss up and the gradients down, and skips steps whose gradients overflowed.

    It differs from Keras' own in two ways. There, each replica checks its own gradients, so that some would take a step
    that others skip. And skipped steps are not counted there, although the views of a step and the resumption of a run
    depend on the number of the step. The learning rate follows the steps that were taken.

    Args: As for `keras.optimizers.LossScaleOptimizer`.
    """

    @property
    def iterations(self):
        """The number of all steps, including skipped ones."""
        return self._iterations

    def apply(self, grads, trainable_variables=None):
        """Takes the step, or skips it if a gradient overflowed."""
        self._iterations.assign_add(1)
        super().apply(grads, trainable_variables)

    def check_finite(self, grads):
        """Whether the gradients of all replicas are finite."""
        overflowed = tf.logical_not(super().check_finite(grads))
        return tf.equal(all_sum(tf.cast(overflowed, tf.float32)), 0.0)
