"""The contrastive objective over the global batch: a loss of the similarities of all replicas' projections."""

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from simclr_tf import config
from simclr_tf.distribution import all_stack, num_replicas, replica_id
from simclr_tf.objectives.blocks import Rule, means_over_anchors
from simclr_tf.objectives.losses import LOSSES
from simclr_tf.objectives.similarity import SIMILARITIES


class Contrast(NamedTuple):
    """The measurements of a replica's anchors, scalars in float32, or in float64 by `nt_xent` of float64.

    Attributes:
        loss: Mean loss of the anchors.
        accuracy: Fraction of the anchors whose positive is more similar than every other candidate.
        entropy: Mean entropy, in nats, of the softmax over an anchor's candidates; at most log(2N - 1), when all
            candidates are equally similar.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor
    entropy: tf.Tensor


@keras.saving.register_keras_serializable("simclr_tf")
def nt_xent(z: tf.Tensor, temperature: float = 0.5) -> Contrast:
    """NT-Xent, the normalized temperature-scaled cross entropy (paper, equation 1), with cosine similarity.

        l(i, j) = -log( exp(sim(z_i, z_j) / tau) / sum_{k != i} exp(sim(z_i, z_k) / tau) )

    averaged over both directions of all N positive pairs of the global batch; an anchor's candidates are the 2N - 1
    other projections of all replicas. Gradients flow into the candidates as well: with the loss divided by the number
    of replicas, the sum of all replicas' gradients is the gradient of the loss over the global batch.

    Args:
        z: This replica's projections, (2B, D): the first view of its images, then the second view of the same images
            in the same order. Any float dtype; the loss is computed in float32, or in float64 for float64.
        temperature: Temperature tau, positive.

    Returns:
        The `Contrast` of this replica's 2B anchors.

    Raises:
        ValueError: If the temperature is not positive.
    """
    z = tf.convert_to_tensor(z)
    dtype = tf.float64 if z.dtype == tf.float64 else tf.float32
    return _contrast(tf.cast(z, dtype), _checked(Rule("nt_xent", "cosine", float(temperature), 0.0, False)), True, [])


@keras.saving.register_keras_serializable("simclr_tf")
class Objective(keras.layers.Layer):
    """A contrastive loss over the global batch, with any similarity.

    As in `nt_xent`, gradients flow into the candidates of all replicas, memory grows linearly with the batch, and the
    computation is in float32 even if the networks are in half precision.

    Args:
        loss: A key of `LOSSES`.
        similarity: A key of `SIMILARITIES`; bilinear has a trainable matrix, initially the identity.
        temperature: Temperature tau, positive; not used by the margin triplet loss.
        margin: Margin of the triplets and of the mining, in units of similarity, at least 0.
        semi_hard: Whether only the semi-hard negatives count (paper, section 5.1).
        normalize: Whether projections are divided by their l2 norms before the similarity. Without it, cosine becomes
            the dot product; `dot` never normalizes.
        dtype: Dtype of the computation.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (2B, D), the first view of the replica's images, then the second. Output: a `Contrast`.

    Raises:
        ValueError: If a name is unknown or a number out of range.

    Example:
        >>> Objective("nt_logistic", "cosine", temperature=0.2, semi_hard=True)(z).loss
    """

    def __init__(
        self,
        loss: str = "nt_xent",
        similarity: str = "cosine",
        temperature: float = 0.5,
        margin: float = 0.4,
        semi_hard: bool = False,
        normalize: bool = True,
        dtype: str = "float32",  # independent of the global policy
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.rule = _checked(Rule(loss, similarity, float(temperature), float(margin), bool(semi_hard)))
        self.normalize = normalize
        self.matrix: keras.Variable | None = None
        self.built = not SIMILARITIES[similarity].learned

    def build(self, input_shape):
        """Creates the matrix of a learned similarity."""
        if SIMILARITIES[self.rule.similarity].learned:
            shape = (input_shape[-1], input_shape[-1])
            self.matrix = self.add_weight(shape=shape, name="matrix", initializer="identity")

    def call(self, z):
        """The `Contrast` of this replica's anchors."""
        learned = [] if self.matrix is None else [tf.convert_to_tensor(self.matrix)]
        return _contrast(z, self.rule, self.normalize, learned)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self.rule._asdict(), "normalize": self.normalize}


def make_objective(settings: config.Loss) -> Objective:
    """The objective described by the settings; build it before the optimizer, because it may have a weight."""
    return Objective(**dataclasses.asdict(settings), name="objective")


def gather_views(z: tf.Tensor) -> tf.Tensor:
    """Gathers the replicas' projections (2B, D) with one collective: (2N, D), all N first views, then all second ones."""
    if num_replicas() == 1:
        return z
    views = all_stack(tf.reshape(z, [2, z.shape[0] // 2, z.shape[1]]))  # (R, 2, B, D)
    return tf.reshape(tf.transpose(views, [1, 0, 2, 3]), [-1, z.shape[1]])


def _contrast(z: tf.Tensor, rule: Rule, normalize: bool, weights: list[tf.Tensor]) -> Contrast:
    if z.shape.rank != 2 or (z.shape[0] or 0) % 2:
        raise ValueError(f"Expected two views of each image as rows of (2B, D). Received: shape {tuple(z.shape)}")
    if num_replicas() > 1 and z.shape[0] is None:
        raise ValueError(
            "Several replicas need batches of one size: batch the data with `drop_remainder=True`. "
            f"Received: shape {tuple(z.shape)}"
        )
    if normalize and SIMILARITIES[rule.similarity].normalize:
        z = tf.math.l2_normalize(z, axis=1)
    first = tf.cast(replica_id(), tf.int32) * (tf.shape(z)[0] // 2)
    return Contrast(*means_over_anchors(rule, z, gather_views(z), weights, first))


def _checked(rule: Rule) -> Rule:
    if rule.loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {sorted(LOSSES)}. Received: {rule.loss}")
    if rule.similarity not in SIMILARITIES:
        raise ValueError(f"`similarity` must be one of {sorted(SIMILARITIES)}. Received: {rule.similarity}")
    if not rule.temperature > 0:
        raise ValueError(f"`temperature` must be greater than 0. Received: {rule.temperature}")
    if not rule.margin >= 0:
        raise ValueError(f"`margin` must be at least 0. Received: {rule.margin}")
    return rule
