"""Tests of the embedded textures: deterministic, balanced, muted; neither color nor raw pixels tell."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simclr_tf.data import patterns
from simclr_tf.data.source import ArrayImages


@pytest.fixture(scope="module")
def train():
    return patterns.make_patterns(3000, seed=0, stream=0)


@pytest.fixture(scope="module")
def test():
    return patterns.make_patterns(1000, seed=0, stream=1)


def linear_accuracy(train_features, train_labels, test_features, test_labels):
    """Test accuracy of a regularized logistic regression on standardized features."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, tol=1e-2, max_iter=1000))
    return classifier.fit(train_features, train_labels).score(test_features, test_labels)


def ring_spectrum(images):
    """Mean, maximum and deviation of the log power spectrum on rings of equal frequency, `(n, 48)`."""
    spectrum = np.log1p(np.abs(np.fft.rfft2(images.mean(axis=-1) / 255 - 0.5)))
    size = images.shape[1]
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    rings = [spectrum[:, (radius >= low) & (radius < low + 1 / 32)] for low in np.arange(16) / 32]
    return np.stack([f(ring, axis=1) for f in (np.mean, np.max, np.std) for ring in rings], axis=1)


def test_shapes_and_types(train):
    images, labels = train
    assert images.shape == (3000, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (3000,) and labels.dtype == np.int32


@pytest.mark.parametrize("n", [1, 7, 10, 203])
def test_class_counts_differ_by_at_most_one(n):
    _, labels = patterns.make_patterns(n, seed=3)
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10 and counts.sum() == n and np.ptp(counts) <= 1


def test_labels_are_shuffled(train):
    _, labels = train
    assert np.mean(labels[1:] == (labels[:-1] + 1) % 10) < 0.2


def test_same_seed_same_bytes():
    first, second = patterns.make_patterns(50, seed=5), patterns.make_patterns(50, seed=5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize(("seed", "stream"), [(6, 0), (5, 1), (0, 5)])
def test_another_seed_or_stream_gives_other_images(seed, stream):
    ours = {image.tobytes() for image in patterns.make_patterns(50, seed=5, stream=0)[0]}
    theirs = {image.tobytes() for image in patterns.make_patterns(50, seed=seed, stream=stream)[0]}
    assert len(ours) == len(theirs) == 50
    assert not ours & theirs


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    patterns.make_patterns(10, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_data_set_is_made_of_the_two_streams(train, test):
    data = patterns.load_patterns(n_train=3000, n_test=1000, seed=0)
    assert data.name == "patterns"
    assert data.class_names == (
        "stripes", "checks", "dots", "rings", "rays", "noise", "blobs", "bricks", "zigzag", "grid",
    )  # fmt: skip
    for split, (images, labels) in ((data.train, train), (data.test, test)):
        assert isinstance(split.images, ArrayImages)
        np.testing.assert_array_equal(split.array(), images)
        np.testing.assert_array_equal(split.labels, labels)


def test_no_training_image_is_a_test_image_and_none_occurs_twice(train, test):
    seen = {image.tobytes() for images, _ in (train, test) for image in images}
    assert len(seen) == 4000


def test_colors_are_muted(train):
    images, _ = train
    means = images.mean(axis=(1, 2))  # (n, 3)
    assert np.ptp(means, axis=1).mean() < 8
    assert np.ptp(means, axis=1).max() < 32
    assert np.abs(means - 127.5).mean() < 8
    # The largest minus the smallest channel of a pixel, pixel noise included.
    assert np.ptp(images, axis=-1).mean() < 16


def test_color_and_contrast_do_not_separate_the_classes(train, test):
    def statistics(images):
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)

    means = train[0].mean(axis=(1, 2))
    class_means = np.stack([means[train[1] == label].mean(axis=0) for label in range(10)])
    assert np.ptp(class_means, axis=0).max() < 3
    assert linear_accuracy(statistics(train[0]), train[1], statistics(test[0]), test[1]) < 0.2


def test_raw_pixels_do_not_separate_the_classes_linearly(train, test):
    def flat(images):
        return images.reshape(len(images), -1).astype(np.float32) / 255

    assert linear_accuracy(flat(train[0]), train[1], flat(test[0]), test[1]) < 0.25


def test_a_simple_texture_feature_separates_the_classes(train, test):
    assert linear_accuracy(ring_spectrum(train[0]), train[1], ring_spectrum(test[0]), test[1]) > 0.75


@pytest.mark.parametrize("arguments", [{"n": 0, "seed": 0}, {"n": 5, "seed": -1}, {"n": 5, "seed": 0, "stream": -1}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        patterns.make_patterns(**arguments)
