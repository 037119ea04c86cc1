import math

import numpy as np
import pytest

from simclr_tf.inspect import nearest as nearest_rows
from simclr_tf.inspect.nearest import nearest


def by_hand(queries, bank, labels, num_classes, k, temperature):
    """Wu et al. (2018), section 3.4, one image at a time."""
    scores = []
    for query in queries.tolist():
        similarities = []
        for row, label in zip(bank.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            similarities.append((dot / math.hypot(*query) / math.hypot(*row), label))
        score = [0.0] * num_classes
        for similarity, label in sorted(similarities, reverse=True)[:k]:
            score[label] += math.exp(similarity / temperature)
        scores.append(score)
    return np.array(scores)


def vote(*problem, k, temperature):
    return nearest_rows.vote(*problem, ks=[k], temperature=temperature)[k]


def random_problem(seed=0, rows=60, queries=17, dims=5, classes=3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, dims)).astype(np.float32),
        rng.normal(size=(rows, dims)).astype(np.float32),
        rng.integers(0, classes, rows),
        classes,
    )


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_equal_the_equation(k, temperature):
    problem = random_problem()
    # The exponent magnifies float32's rounding of the similarity 1 / temperature times.
    np.testing.assert_allclose(
        vote(*problem, k=k, temperature=temperature),
        by_hand(*problem, k=k, temperature=temperature),
        rtol=5e-5,
    )


def test_blocks_do_not_change_the_votes(monkeypatch):
    problem = random_problem()
    whole = vote(*problem, k=7, temperature=0.1)
    for block in (1, 60, 3 * 60, 10**6):
        monkeypatch.setattr("simclr_tf.inspect.nearest.BLOCK", block)
        np.testing.assert_allclose(vote(*problem, k=7, temperature=0.1), whole, rtol=1e-4)


def test_only_directions_count():
    queries, bank, labels, classes = random_problem()
    scales = np.random.default_rng(1).uniform(0.1, 10, size=(len(bank), 1)).astype(np.float32)
    np.testing.assert_allclose(
        vote(3 * queries, scales * bank, labels, classes, k=5, temperature=0.1),
        vote(queries, bank, labels, classes, k=5, temperature=0.1),
        rtol=1e-4,
    )


def test_rows_of_zeros_are_similar_to_none():
    queries, bank, labels, classes = random_problem()
    scores = vote(np.zeros_like(queries), bank, labels, classes, k=5, temperature=0.1)
    np.testing.assert_array_equal(scores.sum(axis=1), 5.0)


@pytest.mark.parametrize("k", [0, 61])
def test_impossible_k_is_refused(k):
    with pytest.raises(ValueError, match=rf"1 \.\. 60.*Received: {k}"):
        vote(*random_problem(), k=k, temperature=0.1)


def test_impossible_temperature_is_refused():
    with pytest.raises(ValueError, match="Received: 0"):
        vote(*random_problem(), k=1, temperature=0)


def test_several_numbers_of_neighbors_at_once_are_each_by_itself():
    problem = random_problem()
    for k, scores in nearest_rows.vote(*problem, ks=[7, 1, 60], temperature=0.1).items():
        np.testing.assert_allclose(scores, vote(*problem, k=k, temperature=0.1), rtol=1e-12)


def test_nearest_come_in_falling_order():
    queries, bank, *_ = random_problem()
    ((start, similarities, rows),) = nearest(queries, bank, 60)
    assert start == 0 and all(sorted(row.tolist()) == list(range(60)) for row in rows)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_faiss_gives_the_same_answers(monkeypatch):
    pytest.importorskip("faiss")
    problem = random_problem(rows=500)
    ours = vote(*problem, k=7, temperature=0.1)
    monkeypatch.setattr("simclr_tf.inspect.nearest.importlib.util.find_spec", lambda name: None)
    np.testing.assert_allclose(vote(*problem, k=7, temperature=0.1), ours, rtol=1e-4)
