import functools
import json

import keras
import numpy as np
import pytest

from simclr_tf import encoders
from simclr_tf.config import Invariance
from simclr_tf.data import patterns
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.evaluation import evaluate
from simclr_tf.evaluation.invariance import accuracy, questions, transformed

KINDS = questions()  # once: each compiles its own transformations
SPLIT = Split(ArrayImages(np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8)))


@pytest.fixture(scope="module")
def pixels():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Flatten()(images))


def test_kinds_have_their_parts_and_the_paper_its_rows():
    assert set(KINDS) == set(Invariance.paper)
    for kinds in KINDS.values():
        assert sum(part for part, _ in kinds) == pytest.approx(1)


@pytest.mark.parametrize("question", sorted(Invariance.paper))
def test_images_of_the_first_kind_are_as_they_were_and_the_others_changed(question, pixels):
    kinds = KINDS[question]
    rows, labels = transformed(pixels, SPLIT, kinds, seed=0)
    np.testing.assert_allclose(np.bincount(labels) / 300, [part for part, _ in kinds], atol=0.08)
    plain = SPLIT.array().reshape(300, -1) / 255
    same = np.isclose(rows, plain, atol=1e-6).all(axis=1)
    np.testing.assert_array_equal(same, labels == 0)


def test_rotations_are_by_quarter_turns(pixels):
    rows, labels = transformed(pixels, SPLIT, KINDS["rotation"], seed=0)
    for row, label, image in zip(rows, labels, SPLIT.array(), strict=True):
        np.testing.assert_allclose(row.reshape(8, 8, 3), np.rot90(image, label) / 255, atol=1e-6)


def test_gray_images_are_gray(pixels):
    rows, labels = transformed(pixels, SPLIT, KINDS["color or gray"], seed=0)
    assert (np.ptp(rows.reshape(300, 8, 8, 3)[labels == 1], axis=3) < 1e-5).all()


def test_test_images_have_noise_of_their_own(pixels):
    """Else a classifier could learn the noise of a position by heart."""
    plain = SPLIT.array().reshape(300, -1) / 255
    found = [transformed(pixels, SPLIT, KINDS["original or noisy"], seed) for seed in (0, 1)]
    noise = [np.where((labels == 1)[:, None], rows - plain, np.nan) for rows, labels in found]
    both = ~np.isnan(noise[0][:, 0]) & ~np.isnan(noise[1][:, 0])
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(each[both] for each in noise), strict=True)]
    assert both.sum() > 40 and np.abs(np.mean(correlations)) < 0.1


def test_accuracy_of_what_is_told_and_of_what_is_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1200)
    told, noise = rng.normal(size=(1200, 6)) + 6 * labels[:, None], rng.normal(size=(1200, 6))
    assert accuracy(told[:900], labels[:900], told[900:], labels[900:]) > 0.95
    assert 0.3 < accuracy(noise[:900], labels[:900], noise[900:], labels[900:]) < 0.7


def test_whole(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr(patterns, "load_patterns", functools.partial(patterns.load_patterns, 200, 200))
    monkeypatch.setattr("simclr_tf.evaluation.invariance.accuracy", lambda rows, *_: rows.shape[1])  # takes long
    record = evaluate(tiny_run, "invariance")
    assert json.loads((tiny_run / "evaluation" / "invariance.json").read_text()) == record
    assert set(record["questions"]) == set(Invariance.paper)
    assert all((row["h"], row["g(h)"]) == (16, 128) for row in record["questions"].values())
    assert [row["guess"] for row in record["questions"].values()] == [0.8, 0.25, 0.5, 0.5]
    assert "paper" in capsys.readouterr().out


def test_few_images_are_refused_before_the_first_question(tiny_run, monkeypatch):
    monkeypatch.setattr(patterns, "load_patterns", functools.partial(patterns.load_patterns, 30, 10))
    with pytest.raises(ValueError, match="at least 40 images. Received: 30"):
        evaluate(tiny_run, "invariance")


def test_the_head_on_h_is_the_last_layer(tiny_run):
    encoder, images = encoders.load_encoder(tiny_run), np.random.default_rng(0).uniform(size=(4, 32, 32, 3))
    head = encoders.load_head(tiny_run, encoder.output_shape[-1])
    expected = encoders.load_encoder(tiny_run, 2)(images, training=False)
    np.testing.assert_allclose(head(encoder(images, training=False)), expected, rtol=1e-5, atol=1e-6)
