"""An update that is made only where it is finite, so that a run that diverges never has poisoned weights."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from simclr_tf.distribution import all_sum


def apply_if_finite(
    optimizer: keras.optimizers.Optimizer, loss: tf.Tensor, gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
) -> tf.Tensor:  # fmt: skip
    """Makes the update unless the loss or a gradient of any replica is not finite; the step is counted either way.

    Call it in the replica context. Whether all gradients are finite is read off the sum of their squares, one kernel a
    variable, instead of off each value. With loss scaling, overflowing gradients are normal and the optimizer skips them
    itself; then only a loss that is not finite is reported.

    Args:
        optimizer: Built optimizer.
        loss: Unscaled loss of this replica, ().
        gradients: Gradients of this replica, one a variable.
        variables: Trainable variables.

    Returns:
        Bool (), the same on all replicas: whether everything was finite.
    """
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    magnitudes = [tf.abs(loss), *([] if scaled else map(tf.nn.l2_loss, gradients))]
    total = tf.add_n([tf.cast(magnitude, tf.float32) for magnitude in magnitudes])
    finite = tf.equal(all_sum(tf.cast(tf.logical_not(tf.math.is_finite(total)), tf.float32)), 0.0)
    if scaled:
        optimizer.apply(gradients, variables)
    elif isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy) or not tf.distribute.has_strategy():
        tf.cond(finite, lambda: _apply(optimizer, gradients, variables), lambda: _count(optimizer))
    else:
        # A branch must not leave the replica context, as the optimizer does, so the branch is taken outside of it.
        tf.distribute.get_replica_context().merge_call(_apply_everywhere, (optimizer, finite, gradients, variables))
    return finite


def _apply_everywhere(strategy, optimizer, finite, gradients, variables) -> None:
    def apply():
        strategy.extended.call_for_each_replica(_apply, (optimizer, gradients, variables))
        return 0

    # The same on all replicas, so any one of them will do.
    tf.cond(strategy.experimental_local_results(finite)[0], apply, lambda: _count(optimizer))


def _apply(optimizer, gradients, variables) -> int:
    optimizer.apply(gradients, variables)
    return 0


def _count(optimizer) -> int:
    optimizer.iterations.assign_add(1)
    return 0
