"""How alike two projections are.

To add a similarity, write a function of R anchors and M candidates, give it a row in `SIMILARITIES` and its name to
`simclr_tf.config.SIMILARITIES`. It must be finite, with a finite gradient, where an anchor meets itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# A vector meets itself among the candidates, where the square root and the arc cosine have infinite slopes. There the
# loss is masked out, but 0 x inf would be NaN. The distance from the edge is a few roundings of float32.
EDGE = 2.5e-7


class Similarity(NamedTuple):
    """A row of `SIMILARITIES`.

    Attributes:
        function: from anchors (R, D), candidates (M, D) and the learned matrix (D, D), if any, to (R, M).
        normalize: False for one that is, by its name, of projections as they are.
        learned: whether it has a learned matrix.
        pairwise: whether it needs arrays of (R, M, D), not being made of matrix products.
    """

    function: Callable[..., tf.Tensor]
    normalize: bool = True
    learned: bool = False
    pairwise: bool = False


def dot(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """The dot product, on the unit sphere the cosine."""
    return tf.matmul(anchors, candidates, transpose_b=True)


def angular(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """1 - angle / pi, from 0 for opposite to 1 for equal directions, whatever the lengths."""
    cosine = dot(tf.math.l2_normalize(anchors, axis=1), tf.math.l2_normalize(candidates, axis=1))
    return 1 - tf.math.acos(tf.clip_by_value(cosine, EDGE - 1, 1 - EDGE)) / 3.141592653589793


def negative_euclidean(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """-|a - c|, by way of |a|^2 + |c|^2 - 2 a . c.

    Which is a matrix product, and cancels: in float32, unit vectors less than about 1e-3 apart are all that near.
    """
    squares = _squares(anchors)[:, tf.newaxis] + _squares(candidates)
    return -tf.sqrt(tf.maximum(squares - 2 * dot(anchors, candidates), EDGE * squares + 1e-30))


def negative_manhattan(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """-sum over dimensions of |a - c|.

    No matrix product: on a CPU and with D = 128 it takes 10 to 15 times as long as cosine. The blocks of anchors are
    smaller by the factor D, so that it needs no more memory.
    """
    return -tf.reduce_sum(tf.abs(anchors[:, tf.newaxis] - candidates), axis=2)


def bilinear(anchors: tf.Tensor, candidates: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """a^T (W + W^T) / 2 c with a learned W, so that it is symmetric; with the identity it is `dot`."""
    return dot(tf.matmul(anchors, (matrix + tf.transpose(matrix)) / 2), candidates)


def _squares(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(x), axis=1)


SIMILARITIES = {
    "angular": Similarity(angular),
    "bilinear": Similarity(bilinear, learned=True),
    "cosine": Similarity(dot),
    "dot": Similarity(dot, normalize=False),
    "negative_euclidean": Similarity(negative_euclidean),
    "negative_manhattan": Similarity(negative_manhattan, pairwise=True),
}
