"""Tests of the losses as functions of similarities: the paper's gradients, and the mining."""

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.objectives.losses import LOSSES, Scores, accuracy_and_entropy, mine_semi_hard
from tests import references

TAU, MARGIN, N = 0.3, 0.4, 7


def vectors(seed=0, dim=4):
    """An anchor u, its positive (row 1) and negatives (the rest) among the unit vectors v; row 0 is u itself."""
    v = np.random.default_rng(seed).normal(size=(N, dim))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return v[0], v


def scores_of(u, v):
    similarities = tf.linalg.matvec(v, u)[tf.newaxis]
    return Scores(similarities[:, 1], similarities, tf.constant([[False, False] + [True] * (N - 2)]))


def gradient(name, u, v):
    u = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(u)
        loss = tf.reduce_sum(LOSSES[name](scores_of(u, v), TAU, MARGIN))
    return tape.gradient(loss, u).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_nt_xent_is_that_of_table_2(seed):
    u, v = vectors(seed)
    p = np.exp(v[1:] @ u / TAU)
    p /= p.sum()
    expected = (1 - p[0]) / TAU * v[1] - sum(p[k - 1] / TAU * v[k] for k in range(2, N))
    np.testing.assert_allclose(-gradient("nt_xent", u, v), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_nt_logistic_is_that_of_table_2(seed):
    u, v = vectors(seed)
    s = references.sigmoid
    negatives = np.mean([s(u @ v[k] / TAU) / TAU * v[k] for k in range(2, N)], axis=0)
    np.testing.assert_allclose(-gradient("nt_logistic", u, v), s(-u @ v[1] / TAU) / TAU * v[1] - negatives, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_margin_triplet_is_that_of_table_2(seed):
    u, v = vectors(seed)
    terms = [v[1] - v[k] if u @ v[1] - u @ v[k] < MARGIN else 0 * u for k in range(2, N)]
    np.testing.assert_allclose(-gradient("margin_triplet", u, v), np.mean(terms, axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_decoupled_is_nt_xent_without_the_positive_below(seed):
    scores = scores_of(*vectors(seed))
    total = tf.math.log(tf.reduce_sum(tf.exp(scores.candidates[:, 1:] / TAU)))
    negatives = tf.math.log(tf.reduce_sum(tf.exp(scores.candidates[:, 2:] / TAU)))
    difference = LOSSES["nt_xent"](scores, TAU, 0.0) - LOSSES["decoupled"](scores, TAU, 0.0)
    np.testing.assert_allclose(difference, [total - negatives], atol=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5, 2.0])
def test_mining_is_its_brute_force_definition(margin):
    rng = np.random.default_rng(0)
    candidates = rng.uniform(-1, 1, size=(20, 30))
    negatives = rng.uniform(size=(20, 30)) < 0.8
    scores = Scores(tf.constant(candidates[:, 3]), tf.constant(candidates), tf.constant(negatives))
    expected = np.zeros_like(negatives)
    for i, k in np.ndindex(*negatives.shape):
        gap = candidates[i, 3] - candidates[i, k]
        expected[i, k] = negatives[i, k] and 0 < gap < margin
    mined = mine_semi_hard(scores, margin)
    np.testing.assert_array_equal(mined.negatives, expected)
    np.testing.assert_array_equal(mined.candidates, candidates)


@pytest.mark.parametrize("name", LOSSES)
def test_anchors_without_negatives_stay_finite(name):
    positive = tf.constant([0.9, -50.0])
    with tf.GradientTape() as tape:
        tape.watch(positive)
        candidates = tf.stack([positive, tf.constant([0.1, 70.0])], axis=1)
        loss = LOSSES[name](Scores(positive, candidates, tf.zeros([2, 2], tf.bool)), TAU, MARGIN)
    expected = [references.LOSSES[name](p, [], TAU, MARGIN) for p in (0.9, -50.0)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(tape.gradient(loss, positive)).all()


def test_extreme_similarities_do_not_overflow():
    scores = Scores(
        tf.constant([300.0]), tf.constant([[0.0, 300.0, -400.0, 500.0]]), tf.constant([[False] * 2 + [True] * 2])
    )
    for name, loss in LOSSES.items():
        assert np.isfinite(loss(scores, 0.01, MARGIN)).all(), name
    hits, entropy = accuracy_and_entropy(scores, 0.01)
    assert float(hits[0]) == 0
    np.testing.assert_allclose(entropy, [0.0], atol=1e-2)


def test_ties_are_no_hits():
    scores = Scores(tf.ones([1]), tf.ones([1, 8]), tf.constant([[False] * 2 + [True] * 6]))
    hits, entropy = accuracy_and_entropy(scores, TAU)
    assert float(hits[0]) == 0
    np.testing.assert_allclose(entropy, [np.log(7)], rtol=1e-6)
