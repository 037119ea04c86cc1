"""Tests of the pass over blocks: one block or many, compiled or not, it is the same loss and the same gradient."""

import re

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.objectives import LOSSES, SIMILARITIES, Objective, blocks, nt_xent

PAIRS = 13


@pytest.mark.parametrize("rows", [1, 4, 7, 25])
def test_many_blocks_are_one(projections, evaluate, eager, monkeypatch, rows):
    z = projections(PAIRS)  # 26 rows, which none of these but 1 divides
    whole = evaluate(nt_xent, z)
    monkeypatch.setattr(blocks, "BLOCK", rows * 2 * PAIRS)
    assert blocks.block_rows(2 * PAIRS, 2 * PAIRS) <= rows
    for a, b in zip(whole, evaluate(nt_xent, z), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_many_blocks_are_one_for_every_loss_and_similarity(projections, evaluate, eager, monkeypatch, loss, similarity):
    z = projections(5)
    objective = Objective(loss, similarity, semi_hard=True, dtype="float64")
    whole = evaluate(objective, z)
    weights = [weight_gradient(objective, z)] if objective.matrix is not None else []
    monkeypatch.setattr(blocks, "BLOCK", 3 * 10 * (5 if SIMILARITIES[similarity].pairwise else 1))
    for a, b in zip(whole, evaluate(objective, z), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    for gradient in weights:
        np.testing.assert_allclose(gradient, weight_gradient(objective, z), atol=1e-12)


def weight_gradient(objective, z):
    with tf.GradientTape() as tape:
        loss = objective(z).loss
    return tape.gradient(loss, objective.trainable_variables[0].value).numpy()


CASES = sorted({(loss, "cosine") for loss in LOSSES} | {("nt_xent", similarity) for similarity in SIMILARITIES})


@pytest.mark.parametrize(("loss", "similarity"), CASES)
def test_compiled_is_not_compiled(projections, evaluate, monkeypatch, loss, similarity):
    z = projections(PAIRS).astype(np.float32)
    # Rules of their own, lest a function traced with other blocks is found again.
    objective = Objective(loss, similarity, temperature=0.31, semi_hard=loss != "nt_xent")
    monkeypatch.setattr(blocks, "BLOCK", 8 * 2 * PAIRS * (5 if SIMILARITIES[similarity].pairwise else 1))
    compiled = evaluate(objective, z)
    tf.config.run_functions_eagerly(True)
    try:
        plain = evaluate(objective, z)
    finally:
        tf.config.run_functions_eagerly(False)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def test_compiles_within_a_compiled_step(projections, evaluate, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8 * 2 * PAIRS)
    z = tf.constant(projections(PAIRS), tf.float32)

    def step(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            contrast = nt_xent(z, 0.32)
        return *contrast, tape.gradient(contrast.loss, z)

    expected = evaluate(lambda z: nt_xent(z, 0.32), z)
    for compiled in (True, False):
        for a, b in zip(expected, tf.function(step, jit_compile=compiled)(z), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_batch_of_unknown_size(projections, evaluate):
    z = projections(PAIRS)
    function = tf.function(nt_xent, input_signature=[tf.TensorSpec([None, 5], tf.float64)])
    for a, b in zip(evaluate(function, z), evaluate(nt_xent, z), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_gradient_follows_what_is_done_with_the_loss(projections, evaluate, eager):
    z = projections()

    def tripled(z):
        contrast = nt_xent(z)
        return contrast._replace(loss=3 * contrast.loss + tf.stop_gradient(contrast.entropy))

    np.testing.assert_allclose(evaluate(tripled, z)[-1], 3 * evaluate(nt_xent, z)[-1], atol=1e-12)


@pytest.mark.parametrize("anchors", [2, 26, 1000, 1024, 4096, 16384, 16386])
@pytest.mark.parametrize("replicas", [1, 8])
def test_blocks_are_few_and_none_too_large(anchors, replicas):
    rows = blocks.block_rows(anchors, replicas * anchors)
    assert 1 <= rows <= anchors
    assert rows * replicas * anchors <= blocks.BLOCK
    assert rows == anchors or 2 * rows * replicas * anchors > blocks.BLOCK


def test_an_anchor_is_a_block_at_least():
    assert blocks.block_rows(4, 3 * blocks.BLOCK) == 1


def test_up_to_512_pairs_are_one_block():
    assert blocks.block_rows(1024, 1024) == 1024
    assert blocks.block_rows(1026, 1026) < 1026


def largest_array(pairs):
    """Of the compiled pass, in elements."""
    z = tf.random.stateless_normal([2 * pairs, 8], seed=[0, 0])
    rule = blocks.Rule("nt_xent", "cosine", 0.5, 0.0, False)
    parts = rule, LOSSES["nt_xent"], SIMILARITIES["cosine"]
    hlo = blocks._in_blocks.experimental_get_compiler_ir(*parts, z, z, [], tf.constant(0))(stage="hlo")
    return max(np.prod([int(n) for n in dims.split(",")]) for dims in re.findall(r"\[(\d+(?:,\d+)*)\]", hlo))


def test_no_array_grows_with_the_square_of_the_batch(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 2**12)
    assert largest_array(256) <= 2**12
    assert largest_array(1024) <= 2048 * 8
