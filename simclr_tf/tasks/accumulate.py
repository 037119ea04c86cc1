"""The gradient of a large batch on a device that holds a part of it (GradCache, https://arxiv.org/abs/2101.06983)."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from simclr_tf.networks.normalization import keeping_statistics
from simclr_tf.objectives import Contrast


def gradients_in_parts(
    project: Callable[[tf.Tensor], tf.Tensor], loss_of: Callable[[tf.Tensor], tuple[Contrast, tf.Tensor]],
    variables: Sequence[keras.Variable], views: tf.Tensor, parts: int,
) -> tuple[Contrast, list[tf.Tensor | None]]:  # fmt: skip
    """The loss over all projections of a replica, and its gradients, with the activations of one part in memory.

    A contrastive loss does not add up over parts of the batch, since each image's negatives are in all of them. So the
    projections of all parts come first, without activations; then the gradient with respect to them, dz; then part by
    part the projections again, through which dz is taken back to the weights. It costs a forward pass more.

    The result is that of the whole batch wherever the network treats each image by itself. Batch norm does not: its
    statistics are those of a part (over all replicas), and they are moved once a part.

    Args:
        project: The network in training mode, views (2b, H, W, C) to projections (2b, P), the same each time.
        loss_of: Function from all projections (2B, P) to what is measured and the loss to differentiate, ().
        variables: Trainable variables of the network and of the loss.
        views: Both views of the replica's images, (2B, H, W, C).
        parts: K, a divisor of B.

    Returns:
        What was measured, and a gradient for each variable.
    """
    inputs = _split(views, parts)
    projections: list[tf.Tensor] = []
    with keeping_statistics():
        for part in inputs:  # one after the other: at once, they would all be in memory
            projections.append(project(_after(projections[-1:], part)))
    z = _join(projections)
    with tf.GradientTape() as tape:
        tape.watch(z)
        contrast, loss = loss_of(z)
    dz, *total = tape.gradient(loss, [z, *variables])
    last = [dz]
    for part, gradient in zip(inputs, _split(dz, parts), strict=True):
        with tf.GradientTape() as tape:
            again = project(_after(last, part))
        found = tape.gradient(again, variables, output_gradients=gradient)
        total = [_sum(one, other) for one, other in zip(total, found, strict=True)]
        last = [each for each in found if each is not None][:1]  # of the first layer, the last to be computed
    return contrast, total


def _after(tensors: Sequence[tf.Tensor], part: tf.Tensor) -> tf.Tensor:
    """The part, computed after the tensors.

    By its value: XLA ignores control dependencies, and would merge the two passes of a part, keeping all activations.
    """
    for tensor in tensors:
        part += tf.cast(0 * tf.reshape(tensor, [-1])[0], part.dtype)
    return part


def _split(both: tf.Tensor, parts: int) -> list[tf.Tensor]:
    """(2B, ...), the first views and then the second, -> K times (2B / K, ...), in the same order each."""
    first, second = (tf.split(views, parts) for views in tf.split(both, 2))
    return [tf.concat(pair, axis=0) for pair in zip(first, second, strict=True)]


def _join(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """The inverse of `_split`."""
    return tf.concat(
        [half for halves in zip(*(tf.split(part, 2) for part in parts), strict=True) for half in halves], 0
    )


def _sum(one: tf.Tensor | None, other: tf.Tensor | None) -> tf.Tensor | None:
    return other if one is None else one if other is None else one + other
