import keras
import numpy as np
import pytest

from simclr_tf.config import Optimization
from simclr_tf.optimizers import OPTIMIZERS, make_optimizer, peak_learning_rate, warmup_cosine


def test_learning_rates_of_the_paper():
    settings = Optimization()
    assert peak_learning_rate(settings, 1024) == 4.0
    assert peak_learning_rate(Optimization(lr_scaling="sqrt", learning_rate=0.075), 4096) == pytest.approx(4.8)
    assert peak_learning_rate(Optimization(lr_scaling="none", learning_rate=0.3), 4096) == 0.3


@pytest.mark.parametrize("warmup", [0, 10])
def test_schedule_rises_linearly_and_falls_as_a_cosine(warmup):
    rate = warmup_cosine(2.0, warmup, 110)
    steps = np.arange(111)
    expected = np.where(
        steps < warmup,
        2.0 * steps / max(warmup, 1),
        1.0 + np.cos(np.pi * (steps - warmup) / (110 - warmup)),
    )
    np.testing.assert_allclose([float(rate(step)) for step in steps], expected, atol=1e-5)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_contract_of_every_optimizer(name):
    """Each lowers a quadratic, decays kernels and not vectors, and counts its steps."""
    kernel, vector = keras.Variable(np.full((4, 4), 3.0, "float32")), keras.Variable(np.full(4, 3.0, "float32"))
    optimizer = make_optimizer(Optimization(optimizer=name), 0.5, [kernel, vector])
    before = np.sum(kernel.numpy() ** 2)
    for _ in range(20):
        optimizer.apply([2.0 * kernel, 0.002 * vector])
    assert np.sum(kernel.numpy() ** 2) < before
    assert int(optimizer.iterations.numpy()) == 20

    kernel, vector = keras.Variable(np.full((4, 4), 3.0, "float32")), keras.Variable(np.full(4, 3.0, "float32"))
    optimizer = make_optimizer(Optimization(optimizer=name, weight_decay=0.1), 0.5, [kernel, vector])
    optimizer.apply([keras.ops.zeros((4, 4)), keras.ops.zeros(4)])
    assert np.all(kernel.numpy() < 3.0)
    np.testing.assert_array_equal(vector.numpy(), 3.0)


def test_float16_scales_the_loss():
    variable = keras.Variable(np.ones((2, 2), "float32"))
    optimizer = make_optimizer(Optimization(), 0.1, [variable], "mixed_float16")
    assert float(optimizer.scale_loss(keras.ops.convert_to_tensor(1.0))) > 1.0


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_come_back_from_their_config(name, precision):
    settings = Optimization(optimizer=name, momentum=0.7, weight_decay=0.01)
    optimizer = make_optimizer(settings, warmup_cosine(0.5, 2, 10), [keras.Variable(np.ones((2, 2)))], precision)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(twin) is type(optimizer) and twin.get_config() == optimizer.get_config()


def test_unknown_optimizer():
    class Settings:
        optimizer = "nonsense"

    with pytest.raises(ValueError, match="lars.*Received: nonsense"):
        make_optimizer(Settings(), 0.1, [])
