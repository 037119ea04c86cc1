import keras
import numpy as np
import pytest

from simclr_tf.optimizers import LARS
from simclr_tf.optimizers.sgd import CoupledSGD


def reference(weight, gradients, rates, momentum, decay, trust_coefficient, adapted):
    """LARS from the definition, in float64."""
    weight, velocity = weight.astype(np.float64), np.zeros_like(weight, np.float64)
    for gradient, rate in zip(gradients, rates, strict=True):
        g, trust = gradient.astype(np.float64), 1.0
        if adapted:
            g = g + decay * weight
            w_norm, g_norm = np.linalg.norm(weight), np.linalg.norm(g)
            trust = trust_coefficient * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
        velocity = momentum * velocity + rate * trust * g
        weight = weight - velocity
    return weight


@pytest.mark.parametrize("shape", [(4, 3), (3, 3, 2, 5), (7,)])
def test_equals_the_definition(shape):
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape).astype("float32")
    gradients = [rng.normal(size=shape).astype("float32") for _ in range(5)]
    schedule = keras.optimizers.schedules.PolynomialDecay(2.0, 5, 0.5)
    optimizer = LARS(schedule, momentum=0.8, weight_decay=0.1, trust_coefficient=0.02)
    variable = keras.Variable(start)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    rates = [float(schedule(step)) for step in range(5)]
    expected = reference(start, gradients, rates, 0.8, 0.1, 0.02, adapted=len(shape) > 1)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_kernels_are_adapted_and_vectors_are_not():
    kernel, bias = keras.Variable(np.ones((2, 2), "float32")), keras.Variable(np.ones(2, "float32"))
    LARS(1.0, momentum=0.0, trust_coefficient=0.001).apply(
        [keras.ops.full((2, 2), 5.0), keras.ops.full((2,), 5.0)], [kernel, bias]
    )
    # The adapted step has norm 0.001 |w| whatever the gradient's is; the plain one is the gradient.
    np.testing.assert_allclose(np.linalg.norm(1.0 - kernel.numpy()), 0.001 * 2.0, rtol=1e-4)
    np.testing.assert_allclose(bias.numpy(), -4.0, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: LARS(0.1, weight_decay=0.5), lambda: CoupledSGD(0.1, l2=0.5)])
def test_what_is_excluded_is_not_decayed(make):
    steps = []
    for names in ([], ["head"]):
        kernel, optimizer = keras.Variable(np.eye(2, dtype="float32"), name="head_kernel"), make()
        optimizer.exclude_from_weight_decay(var_names=names)
        optimizer.apply([keras.ops.zeros((2, 2))], [kernel])
        steps.append(np.abs(kernel.numpy() - np.eye(2)).max())
    assert steps[0] > 0 and steps[1] == 0


def test_the_scale_of_the_gradient_does_not_matter():
    rng = np.random.default_rng(1)
    start, gradient = rng.normal(size=(3, 3)).astype("float32"), rng.normal(size=(3, 3)).astype("float32")
    results = []
    for scale in (1.0, 1e4):
        variable = keras.Variable(start)
        LARS(1.0).apply([keras.ops.convert_to_tensor(scale * gradient)], [variable])
        results.append(variable.numpy())
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize(("start", "gradient"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_zero_norms_give_finite_steps(start, gradient):
    variable = keras.Variable(np.full((2, 2), start, "float32"))
    LARS(1.0).apply([keras.ops.full((2, 2), gradient)], [variable])
    np.testing.assert_allclose(variable.numpy(), start - gradient)


def test_serializes():
    optimizer = LARS(0.3, momentum=0.7, weight_decay=0.01, trust_coefficient=0.005)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, LARS) and copy.get_config() == optimizer.get_config()
    assert (copy.momentum, copy.l2, copy.trust_coefficient) == (0.7, 0.01, 0.005)


@pytest.mark.parametrize("arguments", [{"momentum": 1.0}, {"weight_decay": -1.0}, {"trust_coefficient": 0.0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Received"):
        LARS(**arguments)
