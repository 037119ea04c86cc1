"""Similarities of two projections.

To add one, write a function of R anchors and M candidates, add a row to `SIMILARITIES` and its name to
`SIMILARITY_NAMES` in `config/pretraining.py`. It must be finite, with a finite gradient, for two equal projections.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Each vector is also compared with itself, where the square root and the arc cosine have infinite slopes. The loss is
# masked out there, but 0 x inf would be NaN. The distance from the edge is a few rounding errors of float32; GPUs from
# Ampere on (TF32) and TPUs round the inputs of a matrix product to fewer bits, and resolve only 0.01 to 0.03 near the edge.
EDGE = 2.5e-7


class Similarity(NamedTuple):
    """A row of `SIMILARITIES`.

    Attributes:
        function: Maps anchors (R, D), candidates (M, D) and the learned matrix (D, D), if any, to (R, M).
        normalize: False if it is defined on projections that are not normalized.
        learned: Whether it has a learned matrix.
        pairwise: Whether it needs arrays of (R, M, D) because it is not a matrix product.
    """

    function: Callable[..., tf.Tensor]
    normalize: bool = True
    learned: bool = False
    pairwise: bool = False


def dot(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """The dot product; on the unit sphere, the cosine."""
    return tf.matmul(anchors, candidates, transpose_b=True)


def angular(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """1 - angle / pi, from 0 for opposite to 1 for equal directions, independent of the lengths."""
    cosine = dot(tf.math.l2_normalize(anchors, axis=1), tf.math.l2_normalize(candidates, axis=1))
    return 1 - tf.math.acos(tf.clip_by_value(cosine, EDGE - 1, 1 - EDGE)) / math.pi


def negative_euclidean(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """-|a - c|, computed from |a|^2 + |c|^2 - 2 a . c.

    This is a matrix product, but it cancels: in float32, distances of unit vectors below about 1e-3 are not resolved.
    """
    squares = _squares(anchors)[:, tf.newaxis] + _squares(candidates)
    return -tf.sqrt(tf.maximum(squares - 2 * dot(anchors, candidates), EDGE * squares + 1e-30))


def negative_manhattan(anchors: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """-sum over dimensions of |a - c|.

    Not a matrix product: on a CPU and with D = 128 it takes 10 to 15 times as long as cosine. Blocks of anchors are
    smaller by the factor D, so it does not need more memory.
    """
    return -tf.reduce_sum(tf.abs(anchors[:, tf.newaxis] - candidates), axis=2)


def bilinear(anchors: tf.Tensor, candidates: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """a^T (W + W^T) / 2 c with a learned matrix W, made symmetric; `dot` if W is the identity."""
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
