"""What the tests of the objectives share."""

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def eager():
    """Runs the compiled functions op by op: quicker than compiling each for a handful of small calls."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def evaluate():
    """A function of an objective and z: loss, accuracy, entropy, and the gradient of the loss."""

    def run(objective, z):
        z = tf.convert_to_tensor(z)
        with tf.GradientTape() as tape:
            tape.watch(z)
            contrast = objective(z)
        return *(float(value) for value in contrast), tape.gradient(contrast.loss, z).numpy()

    return run


@pytest.fixture
def projections():
    """A function of pairs, dimension and seed: float64 (2 * pairs, dim), the two views of a pair being alike."""

    def make(pairs=6, dim=5, seed=0, noise=0.7):
        rng = np.random.default_rng(seed)
        images = rng.normal(size=(pairs, dim))
        return np.concatenate([images + noise * rng.normal(size=images.shape) for _ in range(2)])

    return make
