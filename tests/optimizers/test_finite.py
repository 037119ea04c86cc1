"""Updates that are made only where they are finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.config import Optimization
from simclr_tf.optimizers import apply_if_finite, make_optimizer


@pytest.mark.parametrize("value", [1.0, np.nan])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Keras says so, too
def test_a_weight_without_a_gradient_is_left_alone(value):
    weights = [keras.Variable(np.ones(2, np.float32)) for _ in range(2)]
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(weights)
    finite = apply_if_finite(optimizer, tf.constant(1.0), [tf.fill([2], value), None], weights)
    assert bool(finite) == np.isfinite(value)
    np.testing.assert_array_equal(weights[0], np.full(2, 0.5 if finite else 1.0))
    np.testing.assert_array_equal(weights[1], np.ones(2))
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize("scale", [2.0**15, 1.0, 0.5])
def test_an_overflow_is_reported_where_the_loss_scale_is_not_to_blame(scale):
    weight = keras.Variable(np.ones(2, np.float32))
    optimizer = make_optimizer(Optimization(optimizer="sgd"), 0.5, [weight], "mixed_float16")
    optimizer.dynamic_scale.assign(scale)
    finite = apply_if_finite(optimizer, tf.constant(1.0), [tf.fill([2], np.inf)], [weight])
    assert bool(finite) == (scale >= 1) and float(optimizer.dynamic_scale) == scale / 2
    np.testing.assert_array_equal(weight, np.ones(2))


def test_accumulation_by_the_optimizer_is_refused():
    weight = keras.Variable(np.ones(2, np.float32))
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="give `SimCLR` the whole batch.*Received: `gradient_accumulation_steps=2`"):
        apply_if_finite(optimizer, tf.constant(1.0), [tf.ones(2)], [weight])
