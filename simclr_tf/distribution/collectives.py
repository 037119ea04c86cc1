"""The collectives of a train step, called in the replica context, where the step runs.

With one replica they are the identity and add nothing to the graph. Outside any replica (while a model is built under a
strategy's scope) all images are in one place, so they behave as with one replica.
"""

import tensorflow as tf


def num_replicas() -> int:
    """The number of replicas that share the global batch."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> tf.Tensor | int:
    """The index of this replica, int32 (): it has rows id B to (id + 1) B of the global batch."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_sum(x: tf.Tensor) -> tf.Tensor:
    """Sum over all replicas. Differentiable: the gradient is the sum of the replicas' gradients.

    Args:
        x: Tensor of the same static shape on all replicas.

    Returns:
        A tensor of that shape, the same on all replicas.
    """
    if num_replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def all_stack(x: tf.Tensor) -> tf.Tensor:
    """Stack of the tensors of all replicas. Differentiable.

    It scatters into zeros and sums once instead of calling `all_gather`: the values and gradients are the same, but the
    static shape, which XLA needs, is kept, and it runs on a TPU.

    Args:
        x: Tensor of static shape S, the same S on all replicas.

    Returns:
        A tensor of shape (replicas, *S).
    """
    replicas = num_replicas()
    if replicas == 1:
        return x[tf.newaxis]
    return all_sum(tf.scatter_nd([[replica_id()]], x[tf.newaxis], [replicas, *x.shape]))
