"""Tests of the similarities as functions of two vectors."""

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.objectives.similarity import SIMILARITIES
from tests import references

MATRIX = np.random.default_rng(9).normal(size=(4, 4))


def call(name, a, c):
    row = SIMILARITIES[name]
    return row.function(a, c, *([tf.cast(MATRIX, a.dtype)] if row.learned else []))


def vectors(rows, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, 4)))


@pytest.mark.parametrize("name", SIMILARITIES)
def test_is_its_definition_for_every_pair(name):
    a, c = vectors(5), vectors(7, seed=1)
    similarities = call(name, a, c)
    assert similarities.shape == (5, 7)
    for i, k in np.ndindex(5, 7):
        expected = references.SIMILARITIES[name](a[i].numpy(), c[k].numpy(), MATRIX)
        np.testing.assert_allclose(similarities[i, k], expected, atol=1e-12)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_is_symmetric(name):
    a, c = vectors(5), vectors(7, seed=1)
    np.testing.assert_allclose(call(name, a, c), tf.transpose(call(name, c, a)), atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(SIMILARITIES) - {"dot", "bilinear"}))
def test_nothing_is_more_similar_to_a_unit_vector_than_itself(name):
    a = tf.math.l2_normalize(vectors(20), axis=1)
    similarities = call(name, a, a).numpy()
    np.testing.assert_array_equal(similarities.argmax(axis=1), np.arange(20))
    np.testing.assert_allclose(np.diag(similarities), {"angular": 1, "cosine": 1}.get(name, 0), atol=1e-3)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradient_is_finite_where_a_vector_meets_itself_its_opposite_or_zero(name, dtype):
    a = tf.cast(vectors(2), dtype)
    a = tf.concat([a, -a, tf.zeros([1, 4], dtype), 1e-20 * a], axis=0)
    with tf.GradientTape() as tape:
        tape.watch(a)
        similarities = call(name, a, a)
    assert np.isfinite(similarities).all()
    assert np.isfinite(tape.gradient(similarities, a)).all()


def test_angular_does_not_depend_on_lengths():
    a, c = vectors(5), vectors(7, seed=1)
    np.testing.assert_allclose(call("angular", 3 * a, c), call("angular", a, 0.1 * c), atol=1e-12)


def test_bilinear_with_the_identity_is_dot():
    a, c = vectors(5), vectors(7, seed=1)
    expected = SIMILARITIES["dot"].function(a, c)
    np.testing.assert_allclose(SIMILARITIES["bilinear"].function(a, c, tf.eye(4, dtype=a.dtype)), expected, atol=1e-12)
