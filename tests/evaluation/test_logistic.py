import dataclasses
import warnings

import numpy as np
import pytest

from simclr_tf.evaluation.logistic import GRID, fit, linear_probe
from simclr_tf.evaluation.probe import Features, Labeled, judge


def clouds(rows, noise, classes=4, seed=0, dims=12):
    """Rows around one center per class; the centers are the same for every seed."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, dims))
    labels = rng.permutation(np.arange(rows) % classes)
    return Labeled((centers[labels] + noise * rng.normal(size=(rows, dims))).astype(np.float32), labels)


def features(noise, classes=4):
    return Features(*(clouds(n, noise, classes, seed) for seed, n in enumerate((120, 40, 60))), num_classes=classes)


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_separable_classes_are_all_found(classes):
    result = linear_probe(features(0.02, classes))
    assert (result.top1, result.top5) == (1.0, 1.0 if classes > 5 else None)
    assert (result.n_train, result.n_test) == (160, 60)
    assert result.hyper_parameters["converged"] is True


def test_the_test_split_has_no_say():
    mine = features(1.5)
    rng = np.random.default_rng(5)
    other = Labeled(rng.normal(size=(30, 12)).astype(np.float32), rng.integers(0, 4, 30))
    permuted = Labeled(mine.test.features, rng.permutation(mine.test.labels))
    chosen = [
        linear_probe(dataclasses.replace(mine, test=test)).hyper_parameters for test in (mine.test, permuted, other)
    ]
    assert chosen[0] == chosen[1] == chosen[2]


def test_c_is_the_best_on_the_validation_split():
    chosen = linear_probe(features(1.5)).hyper_parameters
    tried = chosen["validation_top1"]
    assert tuple(map(float, tried)) == GRID[: len(tried)]
    assert tried[f"{chosen['C']:g}"] == max(tried.values())


def test_scale_and_shift_of_the_features_do_not_matter():
    mine = features(1.0)
    moved = [Labeled(300 * s.features + 20, s.labels) for s in (mine.train, mine.validation, mine.test)]
    one, two = linear_probe(mine), linear_probe(Features(*moved, num_classes=4))
    assert one.hyper_parameters["C"] == two.hyper_parameters["C"]
    assert np.mean(one.predictions == two.predictions) > 0.95


def test_classes_that_are_not_learned_are_never_predicted():
    mine = features(0.02)
    sparse = [Labeled(s.features, 2 * s.labels + 1) for s in (mine.train, mine.validation, mine.test)]
    result = linear_probe(Features(*sparse, num_classes=10))
    assert result.top1 == 1.0
    assert set(result.predictions) == {1, 3, 5, 7}


def test_a_class_of_the_validation_split_alone_is_learned_in_the_end(monkeypatch):
    monkeypatch.setattr("simclr_tf.evaluation.logistic.GRID", (1.0,))
    mine = features(0.02)
    keep = mine.train.labels != 3
    train = Labeled(mine.train.features[keep], mine.train.labels[keep])
    assert linear_probe(dataclasses.replace(mine, train=train)).top1 == 1.0


def test_constant_features_and_no_convergence_are_no_warnings(monkeypatch):
    monkeypatch.setattr("simclr_tf.evaluation.logistic.FINAL_ITERATIONS", 1)
    mine = features(1.0)
    padded = [Labeled(np.pad(s.features, [(0, 0), (0, 3)]), s.labels) for s in (mine.train, mine.validation, mine.test)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = linear_probe(Features(*padded, num_classes=4))
    assert result.hyper_parameters["converged"] is False


def test_one_class_is_refused():
    mine = features(1.0)
    train = Labeled(mine.train.features, np.zeros(len(mine.train), int))
    with pytest.raises(ValueError, match="two classes.*Received: 1"):
        linear_probe(dataclasses.replace(mine, train=train))


def test_judge_counts_the_five_highest():
    scores = np.tile(np.arange(7.0), (7, 1))  # class 6 is ranked first, then 5, 4, ...
    result = judge(scores, np.arange(7), 3, {"k": 1})
    assert result.top1 == pytest.approx(1 / 7)
    assert result.top5 == pytest.approx(5 / 7)
    assert set(result.predictions) == {6}
    assert judge(scores[:, :6], np.arange(7) % 6, 3, {}).top5 == pytest.approx(5 / 7)


@pytest.mark.parametrize("classes", [2, 5])
def test_five_classes_or_fewer_have_no_top_5(classes):
    result = judge(np.eye(classes), np.arange(classes), 3, {})
    assert (result.top1, result.top5) == (1.0, None)


def test_bad_features_are_refused():
    good = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"Received: \(3, 2\) and \(2,\)"):
        Labeled(good, np.zeros(2, int))
    with pytest.raises(ValueError, match="diverged.*Received: 1 of 3 rows"):
        Labeled(np.where(np.eye(3, 2, dtype=bool) & [True, False], np.nan, good), np.zeros(3, int))
    one, wide = Labeled(good, np.zeros(3, int)), Labeled(np.zeros((3, 4), np.float32), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"Received: \[2, 4, 2\]"):
        Features(one, wide, one, num_classes=2)
    with pytest.raises(ValueError, match=r"0 \.\. 1. Received: 0 \.\. 2"):
        Features(one, one, Labeled(good, np.array([0, 1, 2])), num_classes=2)


def test_interval_is_wilsons():
    """All p whose distance to the accuracy is at most 1.96 of their own standard deviations."""
    hits = np.arange(400) < 300
    result = judge(np.eye(2)[np.where(hits, 0, 1)], np.zeros(400, int), 3, {})
    p = np.linspace(0, 1, 100_001)
    within = p[np.abs(p - 0.75) <= 1.96 * np.sqrt(p * (1 - p) / 400)]
    np.testing.assert_allclose(result.interval, [within.min(), within.max()], atol=1e-4)
    assert result.per_class == [0.75, None] and result.mean_per_class == 0.75


def test_the_mean_over_classes_counts_each_once():
    result = judge(
        np.eye(3)[np.zeros(4, int)], np.array([0, 0, 0, 1]), 3, {}
    )  # always the first class; none of the third
    assert result.top1 == 0.75 and result.per_class == [1.0, 0.0, None] and result.mean_per_class == 0.5


def test_twelve_right_ones_of_twelve_are_no_certainty():
    low, high = judge(np.eye(2)[np.zeros(12, int)], np.zeros(12, int), 3, {}).interval
    assert low == pytest.approx(12 / (12 + 1.96**2), abs=1e-4) and high == 1


def test_a_class_without_a_score_is_not_among_the_best_five():
    scores = np.array([[-np.inf, -np.inf, -np.inf, -np.inf, -np.inf, 1.0], [3.0, 1.0, -np.inf, 0.0, 0.0, 0.0]])
    assert judge(scores, np.array([0, 1]), 3, {}).top5 == 0.5


def test_of_equally_accurate_strengths_that_with_the_best_probabilities_is_chosen():
    """Two classes far apart: all strengths are right, the weakest regularization is surest."""
    rows = np.concatenate([np.full((20, 2), -3.0), np.full((20, 2), 3.0)]).astype(np.float32)
    split = Labeled(rows, np.repeat([0, 1], 20))
    classifier = fit(Features(split, split, split, num_classes=2))
    assert classifier.hyper_parameters["validation_top1"]["1e-05"] == 1
    assert classifier.probabilities(rows).max(axis=1).min() > 0.9


def test_a_strength_that_changes_nothing_is_not_listed():
    """Noise: within the tolerance the fit stays where it was, which says nothing of the strength."""
    random = np.random.default_rng(0)
    split = Labeled(random.normal(size=(2000, 2)).astype(np.float32), random.integers(0, 2, 2000))
    tried = fit(Features(split, split, split, num_classes=2)).hyper_parameters["validation_top1"]
    assert "1e-05" in tried and "10" not in tried


@pytest.mark.parametrize("classes", [2, 3])
def test_the_classifier_of_raw_features_has_the_same_probabilities(classes):
    """Those of scikit-learn, for two classes too, whose single logit is the distance of two."""
    random = np.random.default_rng(classes)
    rows = random.normal(3.0, 2.0, (300, 6)).astype(np.float32)
    labels = (rows @ random.normal(size=(6, classes)) + random.normal(size=(300, classes))).argmax(axis=1)
    split = Labeled(rows, labels)
    classifier = fit(Features(split, split, split, num_classes=classes))
    expected = classifier.model.predict_proba(classifier.scaler.transform(rows))
    np.testing.assert_allclose(classifier.probabilities(rows), expected, rtol=1e-2, atol=1e-6)
    mean, scale, weights, bias = classifier.arrays().values()
    assert weights.dtype == bias.dtype == np.float32 and weights.shape == (6, classes)
    powers = np.exp(((rows - mean) * scale) @ weights + bias)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("classes", [3, 40])
def test_the_fit_is_at_its_minimum(classes):
    """The gradient of the mean loss, written out; of many classes it is as close to zero for each as of ten."""
    random = np.random.default_rng(0)
    labels = np.arange(40 * classes) % classes
    rows = (random.normal(size=(classes, 12))[labels] + random.normal(size=(len(labels), 12))).astype(np.float32)
    split = Labeled(rows, labels)
    both = Features(split, split, split, num_classes=classes).train_and_validation()
    classifier = fit(Features(split, split, split, num_classes=classes))
    x = (both.features - both.features.mean(axis=0)) / both.features.std(axis=0)
    weights, bias = classifier.model.coef_.T, classifier.model.intercept_
    powers = np.exp(x @ weights + bias)
    residuals = powers / powers.sum(axis=1, keepdims=True) - np.eye(classes)[both.labels]
    gradient = (x.T @ residuals + weights / classifier.model.C) / len(x)
    assert np.abs(gradient).max() < 1.1e-3 * min(1, 10 / classes) and np.abs(weights).max() > 0.1
