"""An update that is made only where it is finite, so that a run that diverges never has poisoned weights."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from simclr_tf.distribution import all_sum
from simclr_tf.optimizers.loss_scale import LossScale


def apply_if_finite(
    optimizer: keras.optimizers.Optimizer, loss: tf.Tensor, gradients: Sequence[tf.Tensor | None],
    variables: Sequence[keras.Variable],
) -> tf.Tensor:  # fmt: skip
    """Makes the update unless the loss or a gradient of any replica is not finite; the step is counted either way.

    Only Keras' own loss scale does not count a step that it skips; `LossScale` does.

    Call it in the replica context. Whether all gradients are finite is read off the sum of their squares, one kernel a
    variable, instead of off each value. With loss scaling, overflowing gradients are normal and the optimizer skips them
    itself; they are reported once the scale is below 1, where it is not to blame.

    Args:
        optimizer: Built optimizer.
        loss: Unscaled loss of this replica, ().
        gradients: Gradients of this replica, one a variable, None for one that has no part in the loss.
        variables: Trainable variables.

    Returns:
        Bool (), the same on all replicas: whether everything was finite.

    Raises:
        ValueError: If the optimizer has `gradient_accumulation_steps`.
    """
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "An optimizer that accumulates gradients has negatives of a single batch: give `SimCLR` the whole batch, and "
            f"`accumulate`. Received: `gradient_accumulation_steps={optimizer.gradient_accumulation_steps}`"
        )
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    known = [gradient for gradient in gradients if gradient is not None]
    if scaled:
        scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale  # as Keras scales the loss
        blamed = tf.convert_to_tensor(scale) >= 1
        known = [tf.where(blamed, tf.zeros_like(gradient), gradient) for gradient in known]
    finite = _finite_everywhere([tf.abs(loss), *map(tf.nn.l2_loss, known)])
    if scaled:
        if not isinstance(optimizer, LossScale):
            gradients = _overflowing_everywhere(gradients)
        optimizer.apply(gradients, variables)
    elif isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy) or not tf.distribute.has_strategy():
        tf.cond(finite, lambda: _apply(optimizer, gradients, variables), lambda: _count(optimizer))
    else:
        # A branch must not leave the replica context, as the optimizer does, so the branch is taken outside of it.
        tf.distribute.get_replica_context().merge_call(_apply_everywhere, (optimizer, finite, gradients, variables))
    return finite


def _overflowing_everywhere(gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """The gradients of this replica, NaN where those of any replica are not finite.

    Keras' own loss scale, which `compile` puts around an optimizer in float16, looks at the first replica's alone.
    """
    finite = _finite_everywhere([tf.nn.l2_loss(gradient) for gradient in gradients if gradient is not None])
    nan = float("nan")
    return [None if gradient is None else tf.where(finite, gradient, nan) for gradient in gradients]


def _finite_everywhere(magnitudes: Sequence[tf.Tensor]) -> tf.Tensor:
    """Bool (), the same on all replicas: whether the sum of the magnitudes (each 0 or more) is finite on each."""
    total = tf.add_n([tf.cast(magnitude, tf.float32) for magnitude in magnitudes])
    return tf.equal(all_sum(tf.cast(tf.logical_not(tf.math.is_finite(total)), tf.float32)), 0.0)


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
