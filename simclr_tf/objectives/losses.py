"""Contrastive losses, each a function of the similarities of anchors with their candidates (paper, table 2).

To add one, write a function like these, add a row to `LOSSES` and its name to `LOSS_NAMES` in `config/pretraining.py`.
It sees one block of anchors at a time; its gradient and everything else follow from the row.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Scores(NamedTuple):
    """Similarities of R anchors with the 2N projections of the global batch.

    Attributes:
        positive: Similarity with the anchor's positive, the other view of the same image; (R,).
        candidates: Similarities with all projections; (R, 2N).
        negatives: Which candidates are negatives of the anchor, never itself or its positive; bool (R, 2N).
    """

    positive: tf.Tensor
    candidates: tf.Tensor
    negatives: tf.Tensor


def nt_xent_loss(scores: Scores, temperature: float, margin: float) -> tf.Tensor:
    """NT-Xent, the normalized temperature-scaled cross entropy (paper, equation 1).

        -log( exp(s+ / tau) / (exp(s+ / tau) + sum over negatives of exp(s- / tau)) )

    Args:
        scores: Similarities of R anchors.
        temperature: Temperature tau.
        margin: Not used.

    Returns:
        The loss of each anchor, (R,).
    """
    # -log(a / (a + b)) = softplus(log b - log a)
    return tf.math.softplus(_log_sum_exp(scores, temperature) - scores.positive / temperature)


def decoupled_loss(scores: Scores, temperature: float, margin: float) -> tf.Tensor:
    """Decoupled contrastive loss (Yeh et al., 2021): NT-Xent without the positive in the denominator.

        -s+ / tau + log( sum over negatives of exp(s- / tau) )

    Its gradient does not vanish when the negatives are easy or few, as in small batches. An anchor without negatives
    has loss 0. Reference: https://arxiv.org/abs/2110.06848.

    Args and returns: as in `nt_xent_loss`.
    """
    loss = _log_sum_exp(scores, temperature) - scores.positive / temperature
    return tf.where(tf.reduce_any(scores.negatives, axis=1), loss, tf.zeros_like(loss))


def nt_logistic_loss(scores: Scores, temperature: float, margin: float) -> tf.Tensor:
    """NT-Logistic (paper, table 2), with the mean over the negatives.

        -log sigmoid(s+ / tau) - mean over negatives of log sigmoid(-s- / tau)

    Args and returns: as in `nt_xent_loss`.
    """
    repelled = _mean(tf.math.softplus(scores.candidates / temperature), scores.negatives)
    return tf.math.softplus(-scores.positive / temperature) + repelled


def margin_triplet_loss(scores: Scores, temperature: float, margin: float) -> tf.Tensor:
    """Margin triplet (paper, table 2; Schroff et al., 2015), averaged over the triplets of an anchor.

        mean over negatives of max(s- - s+ + margin, 0)

    Args and returns: as in `nt_xent_loss`, but with `margin` in units of similarity and `temperature` not used.
    """
    return _mean(tf.nn.relu(scores.candidates - scores.positive[:, tf.newaxis] + margin), scores.negatives)


LOSSES: dict[str, Callable[[Scores, float, float], tf.Tensor]] = {
    "decoupled": decoupled_loss,
    "margin_triplet": margin_triplet_loss,
    "nt_logistic": nt_logistic_loss,
    "nt_xent": nt_xent_loss,
}


def mine_semi_hard(scores: Scores, margin: float) -> Scores:
    """Keeps the semi-hard negatives: farther than the positive, but by less than the margin (paper, section 5.1).

        s+ - margin < s- < s+

    Negatives above s+ tend to make a triplet loss collapse, those below s+ - margin are learned already (Schroff et al.,
    2015, section 3.2). If an anchor is left without negatives, a mean or a sum over them is 0.

    The paper also calls them "closest in distance" without a number; here all within the margin count. For the
    logistic and the margin loss, the paper takes the negatives of one view only (appendix B.10), here those of both views
    count. The margin is in units of similarity, before the temperature.
    """
    positive = scores.positive[:, tf.newaxis]
    near = (scores.candidates < positive) & (scores.candidates > positive - margin)
    return scores._replace(negatives=scores.negatives & near)


def accuracy_and_entropy(scores: Scores, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
    """How difficult the task is for each anchor, independent of the loss, given all of its negatives.

    Returns:
        1 if the positive is more similar than every negative, else 0; and the entropy, in nats, of the softmax over
        positive and negatives. Both (R,).
    """
    positive, negatives = scores.positive / temperature, _logits(scores, temperature)
    total = _log_sum_exp(scores, temperature)  # of the negatives
    hits = tf.cast(positive > tf.reduce_max(negatives, axis=1), positive.dtype)
    all_of_them = positive + tf.math.softplus(total - positive)
    expected = tf.reduce_sum(tf.exp(negatives - all_of_them[:, tf.newaxis]) * negatives, axis=1)
    # H = log Z - E[s / tau]
    return hits, all_of_them - expected - tf.exp(positive - all_of_them) * positive


def _logits(scores: Scores, temperature: float) -> tf.Tensor:
    """Similarities over temperature; the lowest number, whose exponential is 0, for everything except negatives."""
    return tf.where(scores.negatives, scores.candidates / temperature, scores.candidates.dtype.min)


def _log_sum_exp(scores: Scores, temperature: float) -> tf.Tensor:
    """Log-sum-exp over the negatives; approximately the lowest number if there are none."""
    return tf.reduce_logsumexp(_logits(scores, temperature), axis=1)


def _mean(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Mean of the chosen values of each row; 0 if there are none."""
    count = tf.reduce_sum(tf.cast(where, values.dtype), axis=1)
    return tf.reduce_sum(tf.where(where, values, tf.zeros_like(values)), axis=1) / tf.maximum(count, 1)
