import itertools

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.inspect.geometry import Geometry, alignment, contrast, effective_rank, spread, uniformity, verdict
from simclr_tf.objectives import nt_xent

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 12, 5))
SETTINGS = {"learning_rate": 4.0, "temperature": 0.5, "epochs": 10}


def units(rows):
    return [row / np.sqrt(sum(x * x for x in row)) for row in rows]


def test_alignment_is_the_mean_squared_distance_of_views():
    distances = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in zip(units(A), units(B), strict=True)]
    assert alignment(A, B) == pytest.approx(np.mean(distances))
    assert alignment(A, 3 * A) == pytest.approx(0)
    assert alignment(A, -A) == pytest.approx(4)


def test_uniformity_is_the_log_of_the_mean_potential():
    potentials = [np.exp(-2 * sum((a - b) ** 2)) for a, b in itertools.combinations(units(A), 2)]
    assert uniformity(A) == pytest.approx(np.log(np.mean(potentials)))
    assert uniformity(np.ones((9, 4))) == pytest.approx(0)
    assert uniformity(np.eye(9)) == pytest.approx(-4)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_directions(rank):
    rows = np.eye(8)[np.arange(48) % rank] * np.sqrt(rank)
    assert effective_rank(rows) == pytest.approx(rank, rel=1e-4)


def test_effective_rank_is_the_entropy_of_singular_values():
    values = np.sqrt(np.linalg.eigvalsh(A.T @ A))
    p = values / values.sum()
    assert effective_rank(A) == pytest.approx(np.exp(-sum(p * np.log(p))), rel=1e-4)


def test_spread_is_0_for_equal_rows_and_1_for_even_ones():
    assert spread(np.ones((9, 4))) == pytest.approx(0)
    assert spread(RNG.normal(size=(5000, 50))) == pytest.approx(1, abs=0.02)


def test_contrast_is_that_of_the_loss():
    z = tf.constant(np.concatenate([A, B]), tf.float32)
    ours = nt_xent(z, temperature=0.3)
    expected = float(ours.accuracy), float(ours.entropy)
    np.testing.assert_allclose(contrast(A, B, 0.3), expected, rtol=1e-4)


def geometry(**changes):
    numbers = {"accuracy": 0.9, "entropy": 2.0, "alignment": 0.3, "uniformity": -3.5, "rank": 60.0, "dimensions": 128,
               "spread": 0.9}  # fmt: skip
    return Geometry(**numbers | changes)


@pytest.mark.parametrize(
    ("word", "changes", "says"),
    [
        ("healthy", {}, "90%"),
        ("collapsed", {"spread": 0.01, "accuracy": 0.05, "alignment": 0.001}, "lower `learning_rate=4`"),
        ("collapsed", {"accuracy": 0.01, "rank": 1.4, "spread": 0.02}, "all alike"),
        ("untrained", {"accuracy": 0.22, "rank": 6.0, "spread": 0.3, "uniformity": -0.6}, "than `epochs=10`"),
        # Views of one image are as far from each other as those of others.
        ("untrained", {"accuracy": 0.22, "alignment": 1.9}, "than `epochs=10`"),
        ("weak", {"accuracy": 0.22, "alignment": 0.3}, "hardly told apart"),
        ("weak", {"rank": 9.0}, "rank 9 of 128"),
    ],
)
def test_verdict_names_what_is_wrong_and_what_to_do(word, changes, says):
    untrained = geometry(accuracy=0.2, alignment=1.0, uniformity=-0.5, rank=5.0, spread=0.4)
    found, sentence = verdict(geometry(**changes), untrained, SETTINGS)
    assert found == word and says in sentence


def test_a_run_can_be_healthy_where_random_weights_match_all_views():
    untrained = geometry(accuracy=1.0, alignment=1.0, uniformity=-0.5, rank=5.0, spread=0.4)
    assert verdict(geometry(accuracy=1.0), untrained, SETTINGS)[0] == "healthy"
    assert verdict(untrained, untrained, SETTINGS)[0] == "untrained"


def test_a_single_image_is_uniform_by_definition():
    assert uniformity(np.ones((1, 4))) == 0.0


def test_of_few_images_the_rank_is_held_against_their_number():
    h, z = RNG.normal(size=(60, 500)), RNG.normal(size=(60, 8))
    found = Geometry.of(h, z, z, 0.5)
    assert found.dimensions == 60 and found.rank > 50
