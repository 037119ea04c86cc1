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
    settings = Optimization(optimizer=name, momentum=0.7 if name in ("lars", "sgd") else 0.9, weight_decay=0.01)
    optimizer = make_optimizer(settings, warmup_cosine(0.5, 2, 10), [keras.Variable(np.ones((2, 2)))], precision)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(twin) is type(optimizer) and twin.get_config() == optimizer.get_config()
    kept = getattr(optimizer, "inner_optimizer", optimizer).get_config()
    assert kept["weight_decay"] == 0.01 and kept.get("momentum", settings.momentum) == settings.momentum


def test_unknown_optimizer():
    class Settings:
        optimizer = "nonsense"

    with pytest.raises(ValueError, match="lars.*Received: nonsense"):
        make_optimizer(Settings(), 0.1, [])


def test_coupled_decay_is_an_l2_penalty_that_passes_through_the_momentum():
    """Against the recursion in NumPy, and ten times as strong as Keras' decay in the long run at momentum 0.9."""
    rate, decay, steps, shrunk = 0.1, 5e-3, 300, {}
    for coupled in (True, False):
        kernel, vector = keras.Variable(np.full((2, 2), 3.0, "float32")), keras.Variable(np.full(2, 3.0, "float32"))
        settings = Optimization(optimizer="sgd", weight_decay=decay, coupled_decay=coupled)
        optimizer = make_optimizer(settings, rate, [kernel, vector])
        for _ in range(steps):
            optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)])
        shrunk[coupled] = np.log(3.0 / kernel.numpy()[0, 0])
        np.testing.assert_array_equal(vector.numpy(), 3.0)
    weight, velocity = 3.0, 0.0
    for _ in range(steps):
        velocity = 0.9 * velocity - rate * decay * weight
        weight += velocity
    assert shrunk[True] == pytest.approx(np.log(3.0 / weight), rel=1e-4)
    assert shrunk[True] / shrunk[False] == pytest.approx(10, rel=0.1)


def test_coupled_decay_needs_sgd():
    with pytest.raises(ValueError, match="`coupled_decay`.*Received: `optimizer=lars`"):
        Optimization(coupled_decay=True)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_variables_have_the_same_paths_in_every_optimizer_of_a_process(name):
    """A checkpoint is restored by them."""
    weights = [keras.Variable(np.ones((2, 3)), name="weights")]
    paths = [
        [variable.path for variable in make_optimizer(Optimization(optimizer=name), 0.1, weights, precision).variables]
        for precision in ("float32", "mixed_float16")
        for _ in range(2)
    ]
    assert paths[0] == paths[1] and paths[2] == paths[3]
