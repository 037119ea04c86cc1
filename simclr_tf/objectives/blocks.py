"""Loss and gradient in one pass over blocks of anchors, so that memory grows linearly with the batch.

The similarities of 2B anchors with 2N candidates are a matrix that, at N = 8192 on one device, takes 1 GiB, several
times over once automatic differentiation keeps what it needs of every step. But an anchor's loss needs one row only.
So each block of rows is made, turned into its part of the loss and of the gradients, and dropped.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.objectives.losses import LOSSES, Scores, accuracy_and_entropy, mine_semi_hard
from simclr_tf.objectives.similarity import SIMILARITIES

# Elements of a block, 4 MiB in float32: small enough for a core's cache, large enough to keep matrix products busy.
# Up to 512 pairs on one device are a single block.
BLOCK = 2**20


class Rule(NamedTuple):
    """Which loss of which similarity; hashable, so that each is traced and compiled once.

    Attributes:
        loss: a key of `LOSSES`.
        similarity: a key of `SIMILARITIES`.
        temperature: tau, positive.
        margin: of the triplets and of the mining, in units of similarity.
        semi_hard: whether only semi-hard negatives count in the loss.
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
    """Loss, accuracy and entropy, of which the loss is differentiable in anchors, candidates and weights.

    Args:
        rule: which loss.
        anchors: this replica's projections, (2B, D), view 1 and then view 2.
        candidates: those of the global batch, (2N, D), likewise; of the same dtype, float32 or float64.
        weights: of the similarity: its learned matrix, or none.
        first: the position of the replica's first image in the global batch.

    Returns:
        Three scalars, means over the replica's anchors.
    """

    @tf.custom_gradient
    def means(*inputs):
        # The gradient is made here: nothing of this is for a tape to record, which XLA's loops would not allow.
        anchors, candidates, *weights = map(tf.stop_gradient, inputs)
        d_anchors, sums = _in_blocks(rule, anchors, candidates, weights, first)
        count = tf.cast(tf.shape(anchors)[0], anchors.dtype)

        def gradient(upstream, *_):  # accuracy and entropy have none
            return [upstream / count * d for d in (d_anchors, sums.d_candidates, *sums.d_weights)]

        return (sums.loss / count, sums.hits / count, sums.entropy / count), gradient

    return means(anchors, candidates, *weights)


def block_rows(anchors: int, candidates: int) -> int:
    """How many anchors make a block: all of them where they fit, else equal parts.

    Args:
        anchors: how many there are.
        candidates: elements that each of them needs, such as the number of candidates.
    """
    largest = max(1, BLOCK // candidates)
    return math.ceil(anchors / math.ceil(anchors / largest))


# Local work without collectives, so that XLA may compile it under every strategy: it fuses what TensorFlow's kernels
# would send through memory a dozen times.
@tf.function(jit_compile=HAS_XLA, autograph=False)
def _in_blocks(rule, anchors, candidates, weights, first):
    """Gradient of the anchors and `Sums`, block after block."""
    own, positive = _columns(first, tf.shape(anchors)[0] // 2, tf.shape(candidates)[0] // 2)
    if anchors.shape[0] is None:  # of unknown size, which a fixed batch size and drop_remainder avoid
        return _block(rule, anchors, candidates, weights, own, positive)
    depth = candidates.shape[1] if SIMILARITIES[rule.similarity].pairwise else 1
    rows = block_rows(anchors.shape[0], candidates.shape[0] * depth)
    if rows >= anchors.shape[0]:
        return _block(rule, anchors, candidates, weights, own, positive)
    return _loop(rule, rows, anchors, candidates, weights, own, positive)


def _loop(rule, rows, anchors, candidates, weights, own, positive):
    size, dim = anchors.shape
    blocks = math.ceil(size / rows)
    missing = blocks * rows - size  # a column of -1 marks the anchors that fill the last block up
    anchors = tf.reshape(tf.pad(anchors, [[0, missing], [0, 0]]), [blocks, rows, dim])
    own, positive = (
        tf.reshape(tf.pad(columns, [[0, missing]], constant_values=-1), [blocks, rows]) for columns in (own, positive)
    )

    def step(index, d_anchors, sums):
        d_block, more = _block(rule, anchors[index], candidates, weights, own[index], positive[index])
        return index + 1, d_anchors.write(index, d_block), tf.nest.map_structure(tf.add, sums, more)

    zero = tf.zeros([], anchors.dtype)
    start = Sums(zero, zero, zero, tf.zeros_like(candidates), [tf.zeros_like(w) for w in weights])
    d_anchors = tf.TensorArray(anchors.dtype, blocks, element_shape=[rows, dim])
    # A loop, and one iteration at a time: side by side, the blocks would need the memory of the whole matrix.
    _, d_anchors, sums = tf.while_loop(
        lambda index, *_: index < blocks,
        step,
        (0, d_anchors, start),
        parallel_iterations=1,
        maximum_iterations=blocks,
    )
    return tf.reshape(d_anchors.stack(), [blocks * rows, dim])[:size], sums


def _block(rule, anchors, candidates, weights, own, positive):
    """Gradient of a block's anchors, and its `Sums`."""
    with tf.GradientTape() as tape:
        tape.watch([anchors, candidates, weights])
        scores = _scores(SIMILARITIES[rule.similarity].function(anchors, candidates, *weights), own, positive)
        mined = mine_semi_hard(scores, rule.margin) if rule.semi_hard else scores
        losses = LOSSES[rule.loss](mined, rule.temperature, rule.margin)
        loss = _sum(losses, own)
    d_anchors, d_candidates, d_weights = tape.gradient(loss, [anchors, candidates, weights])
    hits, entropies = accuracy_and_entropy(scores, rule.temperature)
    return d_anchors, Sums(loss, _sum(hits, own), _sum(entropies, own), d_candidates, d_weights)


def _scores(similarities, own, positive):
    columns = tf.range(tf.shape(similarities)[1])
    is_own, is_positive = columns == own[:, tf.newaxis], columns == positive[:, tf.newaxis]
    # A masked sum rather than a gather, whose gradient is a scatter, that is slow where it is not fused.
    of_positive = tf.reduce_sum(tf.where(is_positive, similarities, tf.zeros_like(similarities)), axis=1)
    return Scores(of_positive, similarities, ~(is_own | is_positive))


def _sum(values, own):
    return tf.reduce_sum(tf.where(own >= 0, values, tf.zeros_like(values)))


def _columns(first, local, total):
    """Of the replica's anchors, and of their positives, among the candidates; int32 (2B,)."""
    images = first + tf.range(local)
    return tf.concat([images, total + images], axis=0), tf.concat([total + images, images], axis=0)
