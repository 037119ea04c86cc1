"""Loss and gradient in one pass over blocks of anchors, so that memory grows linearly with the batch.

The similarities of 2B anchors with 2N candidates form a matrix of 1 GiB at N = 8192 on one device, of which automatic
differentiation would keep several copies. But an anchor's loss needs one row only. So each block of rows is computed,
turned into its part of the loss and of the gradients, and dropped.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.objectives.losses import LOSSES, Scores, accuracy_and_entropy, mine_semi_hard
from simclr_tf.objectives.similarity import SIMILARITIES

# Elements of a block, 4 MiB in float32: small enough for a core's cache, large enough for efficient matrix products.
# Up to 512 pairs on one device fit into a single block.
BLOCK = 2**20


class Rule(NamedTuple):
    """A loss and a similarity with their settings; hashable, so that each is traced and compiled once.

    Attributes:
        loss: A key of `LOSSES`.
        similarity: A key of `SIMILARITIES`.
        temperature: Temperature tau, positive.
        margin: Margin of the triplets and of the mining, in units of similarity.
        semi_hard: Whether only semi-hard negatives count in the loss.
    """

    loss: str
    similarity: str
    temperature: float
    margin: float
    semi_hard: bool


class Sums(NamedTuple):
    """Sums over anchors: three scalars and the gradients of the first."""

    loss: tf.Tensor
    hits: tf.Tensor
    entropy: tf.Tensor
    d_candidates: tf.Tensor  # (2N, D)
    d_weights: list[tf.Tensor]


def means_over_anchors(
    rule: Rule, anchors: tf.Tensor, candidates: tf.Tensor, weights: list[tf.Tensor], first: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Loss, accuracy and entropy; the loss is differentiable in anchors, candidates and weights.

    Args:
        rule: Loss and similarity.
        anchors: This replica's projections, (2B, D), view 1 and then view 2, float32 or float64.
        candidates: Projections of the global batch, (2N, D), in the same order and dtype.
        weights: Weights of the similarity: its learned matrix, or none.
        first: Position of the replica's first image in the global batch.

    Returns:
        Three scalars, means over the replica's anchors.
    """

    @tf.custom_gradient
    def means(*inputs):
        # The gradient is computed here: a tape must not record any of this, because it cannot differentiate XLA's loops.
        anchors, candidates, *weights = map(tf.stop_gradient, inputs)
        # The functions themselves, so that another one under the same name is another trace.
        parts = LOSSES[rule.loss], SIMILARITIES[rule.similarity]
        d_anchors, sums = _in_blocks(rule, *parts, anchors, candidates, weights, first)
        count = tf.cast(tf.shape(anchors)[0], anchors.dtype)

        def gradient(upstream, *_):  # accuracy and entropy have no gradient
            return [upstream / count * d for d in (d_anchors, sums.d_candidates, *sums.d_weights)]

        return (sums.loss / count, sums.hits / count, sums.entropy / count), gradient

    return means(anchors, candidates, *weights)


def block_rows(anchors: int, candidates: int) -> int:
    """Number of anchors per block, each of which needs `candidates` elements: all if they fit, else equal parts."""
    largest = max(1, BLOCK // candidates)
    return math.ceil(anchors / math.ceil(anchors / largest))


# Local work without collectives, so XLA can compile it under every strategy: it fuses what TensorFlow's kernels would
# move through memory a dozen times.
@tf.function(jit_compile=HAS_XLA, autograph=False)
def _in_blocks(rule, loss, similarity, anchors, candidates, weights, first):
    """Gradient of the anchors and `Sums`, one block at a time."""
    # Columns of the replica's anchors and of their positives among the candidates; int32 (2B,).
    total, images = tf.shape(candidates)[0] // 2, first + tf.range(tf.shape(anchors)[0] // 2)
    own, positive = tf.concat([images, total + images], axis=0), tf.concat([total + images, images], axis=0)
    if anchors.shape[0] is not None:  # an unknown batch size is a single block; drop_remainder avoids this
        depth = candidates.shape[1] if similarity.pairwise else 1
        rows = block_rows(anchors.shape[0], candidates.shape[0] * depth)
        if rows < anchors.shape[0]:
            return _loop((rule, loss, similarity), rows, anchors, candidates, weights, own, positive)
    return _block((rule, loss, similarity), anchors, candidates, weights, own, positive)


def _loop(parts, rows, anchors, candidates, weights, own, positive):
    size, dim = anchors.shape
    blocks = math.ceil(size / rows)
    missing = blocks * rows - size  # a column of -1 marks the padding of the last block
    anchors = tf.reshape(tf.pad(anchors, [[0, missing], [0, 0]]), [blocks, rows, dim])
    own, positive = (
        tf.reshape(tf.pad(columns, [[0, missing]], constant_values=-1), [blocks, rows]) for columns in (own, positive)
    )

    def step(index, d_anchors, sums):
        d_block, more = _block(parts, anchors[index], candidates, weights, own[index], positive[index])
        return index + 1, d_anchors.write(index, d_block), tf.nest.map_structure(tf.add, sums, more)

    zero = tf.zeros([], anchors.dtype)
    start = Sums(zero, zero, zero, tf.zeros_like(candidates), [tf.zeros_like(w) for w in weights])
    d_anchors = tf.TensorArray(anchors.dtype, blocks, element_shape=[rows, dim])
    # One iteration at a time: in parallel, the blocks would need the memory of the whole matrix.
    _, d_anchors, sums = tf.while_loop(
        lambda index, *_: index < blocks, step, (0, d_anchors, start), parallel_iterations=1, maximum_iterations=blocks
    )
    return tf.reshape(d_anchors.stack(), [blocks * rows, dim])[:size], sums


def _block(parts, anchors, candidates, weights, own, positive):
    """Gradient of a block's anchors, and its `Sums`."""
    rule, loss_of, similarity = parts
    with tf.GradientTape() as tape:
        tape.watch([anchors, candidates, weights])
        scores = _scores(similarity.function(anchors, candidates, *weights), own, positive)
        mined = mine_semi_hard(scores, rule.margin) if rule.semi_hard else scores
        losses = loss_of(mined, rule.temperature, rule.margin)
        loss = _sum(losses, own)
    d_anchors, d_candidates, d_weights = tape.gradient(loss, [anchors, candidates, weights])
    hits, entropies = accuracy_and_entropy(scores, rule.temperature)
    return d_anchors, Sums(loss, _sum(hits, own), _sum(entropies, own), d_candidates, d_weights)


def _scores(similarities, own, positive):
    columns = tf.range(tf.shape(similarities)[1])
    is_own, is_positive = columns == own[:, tf.newaxis], columns == positive[:, tf.newaxis]
    # A masked sum rather than a gather, whose gradient is a scatter, which is slow unless it is fused.
    of_positive = tf.reduce_sum(tf.where(is_positive, similarities, tf.zeros_like(similarities)), axis=1)
    return Scores(of_positive, similarities, ~(is_own | is_positive))


def _sum(values, own):
    return tf.reduce_sum(tf.where(own >= 0, values, tf.zeros_like(values)))
