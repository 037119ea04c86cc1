"""The contrastive loss over the global batch."""

from typing import NamedTuple

import tensorflow as tf

from simclr_tf.distribution import all_stack, num_replicas, replica_id


class Contrast(NamedTuple):
    """What a replica knows of its own anchors; all scalars, float32.

    Attributes:
        loss: mean over the replica's anchors.
        accuracy: part of the anchors whose positive is the most similar of all candidates.
        entropy: mean entropy, in nats, of the softmax over an anchor's candidates; log(2N - 1) when they all look alike.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor
    entropy: tf.Tensor


def nt_xent(z: tf.Tensor, temperature: float = 0.5) -> Contrast:
    """NT-Xent, the normalised temperature-scaled cross entropy (paper, equation 1), with cosine similarity.

        l(i, j) = -log( exp(sim(z_i, z_j) / tau) / sum_{k != i} exp(sim(z_i, z_k) / tau) )

    averaged over both directions of all N positive pairs of the global batch; an anchor's candidates are the 2N - 1
    other projections of all replicas. Gradients flow into them, too: with the returned loss divided by the number of
    replicas, the sum of all replicas' gradients is that of the loss over the global batch.

    Args:
        z: this replica's projections, (2B, D): the first view of its images, then the second of the same images in
            the same order. Any float dtype; the loss is computed in float32.
        temperature: tau, positive.

    Returns:
        The `Contrast` of this replica's 2B anchors.
    """
    z = tf.math.l2_normalize(tf.cast(z, tf.float32), axis=1)
    candidates = gather_views(z)  # (2N, D)
    own, positive = _rows(tf.shape(z)[0] // 2, tf.shape(candidates)[0] // 2)
    logits = tf.matmul(z, candidates, transpose_b=True) / temperature  # (2B, 2N)
    is_self = tf.range(tf.shape(candidates)[0]) == own[:, None]
    logits = tf.where(is_self, logits.dtype.min, logits)
    log_p = tf.nn.log_softmax(logits)
    loss = -tf.reduce_mean(tf.gather(log_p, positive, batch_dims=1))
    hits = tf.argmax(logits, axis=1, output_type=tf.int32) == positive
    # p log p of the anchor itself is 0 x -inf: leave it out.
    entropy = -tf.reduce_sum(tf.where(is_self, 0.0, tf.exp(log_p) * log_p), axis=1)
    return Contrast(loss, tf.reduce_mean(tf.cast(hits, tf.float32)), tf.reduce_mean(entropy))


def gather_views(z: tf.Tensor) -> tf.Tensor:
    """The projections of the global batch, from each replica's part.

    Args:
        z: (2B, D), the first view of the replica's B images, then the second.

    Returns:
        (2N, D), the first view of all N images of the global batch, then the second.
    """
    if num_replicas() == 1:
        return z
    dim = z.shape[1]
    views = all_stack(tf.reshape(z, [2, z.shape[0] // 2, dim]))  # (R, 2, B, D)
    return tf.reshape(tf.transpose(views, [1, 0, 2, 3]), [-1, dim])


def _rows(local: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows of the replica's anchors, and of their positives, among the candidates; int32 (2B,)."""
    first = tf.cast(replica_id(), tf.int32) * local
    images = first + tf.range(local)
    return tf.concat([images, total + images], axis=0), tf.concat([total + images, images], axis=0)
