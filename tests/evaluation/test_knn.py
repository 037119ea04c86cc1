import numpy as np
import pytest

from simclr_tf.evaluation.knn import knn_probe
from simclr_tf.evaluation.probe import Features, Labeled
from simclr_tf.inspect.nearest import TEMPERATURE, vote


def split(rows, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    return Labeled((np.eye(3, 8)[labels] + 0.05 * rng.normal(size=(rows, 8))).astype(np.float32), labels)


def test_separable_classes_are_all_found():
    result = knn_probe(Features(split(60, 0), split(15, 1), split(30, 2), num_classes=3))
    assert (result.top1, result.top5, result.n_train, result.n_test) == (1.0, None, 75, 30)
    assert result.hyper_parameters == {"k": 20, "temperature": TEMPERATURE}


@pytest.mark.parametrize("k", [1, 7, 75])
def test_as_many_neighbors_vote_as_asked_for(k):
    features = Features(split(60, 0), split(15, 1), split(30, 2), num_classes=3)
    bank = features.train_and_validation()
    expected = vote(features.test.features, bank.features, bank.labels, 3, ks=[k], temperature=TEMPERATURE)[k]
    result = knn_probe(features, [k])
    assert result.hyper_parameters["k"] == k
    np.testing.assert_array_equal(result.predictions, expected.argmax(axis=1))


def test_few_training_images_all_vote():
    result = knn_probe(Features(split(6, 0), split(3, 1), split(9, 2), num_classes=3))
    assert result.hyper_parameters["k"] == 9
    assert result.top1 == 1.0


def test_several_numbers_of_neighbors_at_once():
    features = Features(split(60, 0), split(15, 1), split(30, 2), num_classes=3)
    result = knn_probe(features, [5, 1, 99])
    assert result.hyper_parameters["k"] == 5 and set(result.hyper_parameters["top1"]) == {"5", "1", "75"}
    assert result.hyper_parameters["top1"]["5"] == result.top1


def test_a_class_without_a_vote_is_not_among_the_best_five():
    rows, labels = np.eye(6, dtype=np.float32), np.arange(6)
    one, wrong = Labeled(rows, labels), Labeled(rows, (labels + 1) % 6)
    assert knn_probe(Features(one, one, wrong, num_classes=6), [2]).top5 == 0
