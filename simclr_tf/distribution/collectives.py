"""The collectives of a train step, written for the replica context, where the step runs.

With one replica they are the identity and leave no trace in the graph. Outside of any replica (a model being built under
a strategy's scope) all images are in one place, so they behave as with one replica.
"""

import tensorflow as tf


def num_replicas() -> int:
    """How many replicas share the global batch."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> tf.Tensor | int:
    """The position of this replica's images in the global batch: it holds rows `id * B` to `(id + 1) * B`."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_sum(x: tf.Tensor) -> tf.Tensor:
    """Sum of `x` over all replicas. Differentiable: the gradient is the sum of the replicas' gradients."""
    if num_replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def all_stack(x: tf.Tensor) -> tf.Tensor:
    """Every replica's `x`, stacked.

    A scatter into zeros and one sum, rather than `all_gather`: it has the same values and gradients, keeps the static
    shape that XLA needs, and runs on a TPU.

    Args:
        x: a tensor of static shape S, the same on all replicas.

    Returns:
        A tensor of shape (replicas, *S).
    """
    replicas = num_replicas()
    if replicas == 1:
        return x[tf.newaxis]
    return all_sum(tf.scatter_nd([[replica_id()]], x[tf.newaxis], [replicas, *x.shape]))
