"""The complete train step under XLA: what a TPU needs, as far as that shows without one."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.config import Config, Network, Views
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.pretrain import build_model
from simclr_tf.training.checkpoints import collect

BATCH, SIZE = 8, 16
pytestmark = pytest.mark.skipif(not HAS_XLA, reason="no XLA for this CPU")


def make_model():
    keras.utils.set_random_seed(0)
    network = Network(encoder="tests.tiny:encoder", projection_dim=16)
    model = build_model(Config(network=network, augmentation=Views(blur=True)), (SIZE, SIZE, 3))
    optimizer = LARS(0.1, weight_decay=1e-3)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    return model


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def compiled():
    """A model and its compiled step."""
    model = make_model()
    return model, tf.function(model.train_step, jit_compile=True)


def test_compiled_step_is_the_uncompiled_one(images, compiled):
    states, plain = [], make_model()
    for model, step in ((plain, tf.function(plain.train_step)), compiled):
        logs = step(images)
        variables = collect([*model.weights, *model.optimizer.variables])
        states.append({**{name: value.numpy() for name, value in logs.items()}, **variables})
    assert states[0].keys() == states[1].keys()
    for key, expected in states[0].items():
        scale = max(np.abs(expected).max(), 1e-6)
        np.testing.assert_allclose(states[1][key] / scale, expected / scale, atol=1e-3, err_msg=key)
    assert np.isfinite(states[1]["loss"])


def test_lowered_step_has_static_shapes_and_stays_on_the_device(images, compiled):
    hlo = compiled[1].experimental_get_compiler_ir(tf.TensorSpec(images.shape, images.dtype))(stage="hlo")
    assert "convolution" in hlo
    assert not re.search(r"\[[^\]]*<=\d", hlo)  # a bounded dynamic dimension
    for host in ("infeed", "outfeed", "send(", "recv(", "custom-call", "dynamic-reshape", "set-dimension-size"):
        assert f" {host}" not in hlo, host
