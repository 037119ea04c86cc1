"""The expected memory: in the right order of magnitude, and said with advice when it is too much."""

import keras
import pytest
import tensorflow as tf

from simclr_tf.augment import TwoViews
from simclr_tf.config import Config, Network, Training
from simclr_tf.inspect import memory
from simclr_tf.networks import projection_head
from simclr_tf.objectives import nt_xent
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.pretrain import build_model
from simclr_tf.tasks.simclr import SimCLR


def make(encoder="resnet18", width=0.25, size=32, precision="float32"):
    config = Config(network=Network(encoder=encoder, width=width), training=Training(precision=precision))
    model = build_model(config, (size, size, 3))
    optimizer = LARS()
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    return model


def test_activations_grow_with_the_batch_and_variables_do_not():
    model = make()
    small, large = memory.expected_memory(model, 64), memory.expected_memory(model, 256)
    assert large["activations"] == 4 * small["activations"]
    assert large["variables"] == small["variables"]


def test_variables_are_weights_and_slots():
    model = make()
    trainable = sum(v.numpy().nbytes for v in model.trainable_variables)
    statistics = sum(v.numpy().nbytes for v in model.non_trainable_variables)
    found = memory.expected_memory(model, 64)
    # Weights, momenta and gradients, then statistics and the optimizer's scalars.
    assert 3 * trainable + statistics <= found["variables"] <= 3 * trainable + statistics + 100


def test_half_precision_halves_the_activations():
    full, half = (memory.expected_memory(make(precision=p), 64)["activations"] for p in ("float32", "mixed_bfloat16"))
    assert 0.45 < half / full < 0.6


def test_the_loss_is_bounded_by_its_block():
    model = make()
    one, two = (memory.expected_memory(model, batch)["loss"] for batch in (4096, 8192))
    assert two < 2 * one


@pytest.mark.parametrize(("has", "advice"), [(2**40, False), (2**20, True), (None, False)])
def test_line_advises_when_it_does_not_fit(monkeypatch, has, advice):
    monkeypatch.setattr(memory, "device_memory", lambda strategy: has)
    line = memory.memory_line(make(), 256)
    assert line.startswith("about ")
    assert ("`batch_size`" in line) == advice


class Subclassed(keras.Model):
    """An encoder whose layers were never called on symbolic inputs."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(4, 3)
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, images):
        return self.pool(self.convolution(images))


def any_size():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3)(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize("encoder", [Subclassed, any_size])
def test_unknown_for_encoders_that_do_not_say(encoder):
    head = projection_head("nonlinear", 4, 8)
    model = SimCLR(encoder(), head, TwoViews([]), nt_xent)
    model(tf.zeros([2, 8, 8, 3]))
    model.compile(LARS())
    model.optimizer.build(model.trainable_variables)
    assert memory.expected_memory(model, 8) is None
    assert memory.memory_line(model, 8).startswith("unknown")


def test_this_machine_has_memory():
    assert memory.device_memory(tf.distribute.OneDeviceStrategy("CPU:0")) > 2**20
