import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.data.pipeline import training_batches
from simclr_tf.evaluation import linear_sgd
from simclr_tf.evaluation.linear_sgd import MOMENTUM, SgdProbe
from tests.evaluation.channels import split


@pytest.fixture
def encoder():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


def by_hand(images, rate, decay, epochs, batch):
    """Nesterov's method on the mean cross-entropy plus the penalty, in NumPy."""
    weights, biases, steps = np.zeros((3, 3)), np.zeros(3), len(images) // batch
    velocities, stream = [np.zeros((3, 3)), np.zeros(3)], iter(training_batches(images, batch, 7, labels=True))
    for number in range(epochs * steps):
        pixels, labels = (part.numpy() for part in next(stream))
        h = (pixels / 255).mean(axis=(1, 2))
        p = np.exp(h @ weights + biases)
        error = (p / p.sum(axis=1, keepdims=True) - np.eye(3)[labels]) / batch
        gradients = [h.T @ error + decay * weights, error.sum(axis=0)]
        now = rate * batch / 256 * 0.5 * (1 + np.cos(np.pi * number / (epochs * steps)))
        velocities = [MOMENTUM * v + g for v, g in zip(velocities, gradients, strict=True)]
        weights = weights - now * (gradients[0] + MOMENTUM * velocities[0])
        biases = biases - now * (gradients[1] + MOMENTUM * velocities[1])
    return weights, biases


def test_each_layer_follows_its_own_rate_and_decay(encoder, monkeypatch):
    monkeypatch.setattr(linear_sgd, "policy", lambda names: [])
    train, pairs = split(50, 0), [(30.0, 0.0), (3.0, 0.1)]
    weights, biases = SgdProbe(2, 16, seed=7)._train(encoder, train, 3, pairs, "")
    for number, (rate, decay) in enumerate(pairs):
        expected = by_hand(train, rate, decay, 2, 16)
        np.testing.assert_allclose(weights[number], expected[0], atol=1e-4)
        np.testing.assert_allclose(biases[number, 0], expected[1], atol=1e-4)


def test_separable_classes_are_all_found(encoder):
    before = [weight.numpy() for weight in encoder.weights]
    train, validation, test = split(60, 0), split(15, 1), split(30, 2)
    result = SgdProbe(8, 16, 0)(encoder, train, validation, split(75, 3), test, 3)
    assert (result.top1, result.n_train, result.n_test) == (1.0, 75, 30)
    tried = result.hyper_parameters["validation_top1"]
    assert len(tried) == len(linear_sgd.RATES) * len(linear_sgd.DECAYS)
    chosen = f"{result.hyper_parameters['learning_rate']:g}, {result.hyper_parameters['weight_decay']:g}"
    assert tried[chosen] == max(tried.values())
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, encoder.weights, strict=True))


def test_a_device_without_memory_is_one_line(encoder, monkeypatch):
    def exhausted(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        yield

    monkeypatch.setattr(linear_sgd, "training_batches", exhausted)
    with pytest.raises(ValueError, match="ran out of memory: take a smaller `batch_size`. Received: `batch_size=16`"):
        SgdProbe(1, 16, 0)(encoder, split(60, 0), split(15, 1), split(75, 3), split(30, 2), 3)


def test_crops_differ_from_epoch_to_epoch(encoder, monkeypatch):
    """No features are kept: the encoder sees as many images as there are in all epochs."""
    seen = []

    def look(views):
        seen.append(views)
        return views.mean(axis=(1, 2))

    def represent(model, views):
        return tf.ensure_shape(tf.numpy_function(look, [views], tf.float32), (None, 3))

    monkeypatch.setattr(linear_sgd, "represent", represent)
    SgdProbe(2, 30, 0)._train(encoder, split(30, 0), 3, [(0.1, 0.0)], "")
    first, second = (np.sort(views.mean(axis=(1, 2, 3))) for views in seen)
    assert len(seen) == 2 and not np.allclose(first, second)
