"""Folding changes neither the function of a model nor the model."""

import keras
import numpy as np
import pytest

from simclr_tf.networks import make_encoder, projection_head
from simclr_tf.networks.folding import folded
from tests import tiny

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


def disturb(model, seed=0):
    """Statistics, scales and offsets that are not those of an initialization."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))


@pytest.mark.parametrize("name", ["resnet18", "bottlenecks", "vgg11", "mobilenet_v2"])
def test_the_function_stays(name):
    model = tiny.bottlenecks((32, 32, 3)) if name == "bottlenecks" else make_encoder(name, (32, 32, 3), 0.25, "auto")
    disturb(model)
    before = [np.array(weight) for weight in model.get_weights()]
    expected = np.asarray(model(IMAGES, training=False))
    copy = folded(model)
    np.testing.assert_allclose(
        np.asarray(copy(IMAGES, training=False)), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )
    norms = [sum("ormalization" in type(layer).__name__ for layer in each.layers) for each in (model, copy)]
    assert norms[1] == {"mobilenet_v2": 17}.get(name, 0) < norms[0]  # those after depthwise convolutions are left
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))


def test_keras_own_batch_norm_in_a_functional_model():
    images = keras.Input((32, 32, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    disturb(model)
    expected = np.asarray(model(IMAGES, training=False))
    np.testing.assert_allclose(np.asarray(folded(model)(IMAGES, training=False)), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded(model).layers)


def test_layers_that_are_called_twice_are_left():
    images, conv = keras.Input((32, 32, 3)), keras.layers.Conv2D(6, 3)
    parts = [keras.layers.BatchNormalization()(conv(x)) for x in (images, keras.ops.flip(images, axis=1))]
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(parts)))
    disturb(model)
    expected = np.asarray(model(IMAGES, training=False))
    np.testing.assert_allclose(np.asarray(folded(model)(IMAGES, training=False)), expected, rtol=1e-4, atol=1e-5)


def test_dense_layers_with_and_without_bias_and_scale():
    layers = [keras.Input((6,)), keras.layers.Dense(5), keras.layers.BatchNormalization(scale=False),
              keras.layers.Dense(4, use_bias=False), keras.layers.BatchNormalization(center=False),
              keras.layers.Dense(3, activation="relu"), keras.layers.BatchNormalization()]  # fmt: skip
    model = keras.Sequential(layers)
    disturb(model)
    inputs = np.random.default_rng(1).random((7, 6), np.float32)
    copy = folded(model)
    np.testing.assert_allclose(np.asarray(copy(inputs)), np.asarray(model(inputs)), rtol=1e-4, atol=1e-5)
    left = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(left) == 1  # that after an activation


def test_a_layer_that_is_read_elsewhere_is_left_alone():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5)(inputs)
    model = keras.Model(inputs, [keras.layers.BatchNormalization()(hidden), keras.layers.ReLU()(hidden)])
    assert folded(model) is model
    model = keras.Model(inputs, [keras.layers.BatchNormalization()(hidden), hidden])
    assert folded(model) is model


def test_a_layer_that_is_read_by_the_second_call_of_another_is_left_alone():
    inputs, relu = keras.Input((6,)), keras.layers.ReLU()
    hidden = keras.layers.Dense(6)(relu(inputs))
    model = keras.Model(inputs, keras.layers.Add()([keras.layers.BatchNormalization()(hidden), relu(hidden)]))
    assert folded(model) is model


def test_a_head_on_an_encoder(tmp_path):
    encoder = make_encoder("resnet18", (32, 32, 3), 0.125, "auto")
    head = projection_head("nonlinear", encoder.output_shape[-1])
    model = keras.Model(encoder.input, head(encoder.output))
    disturb(model)
    expected = np.asarray(model(IMAGES, training=False))
    np.testing.assert_allclose(np.asarray(folded(model)(IMAGES, training=False)), expected, rtol=1e-3, atol=1e-3)


def test_a_model_of_ones_own_class_is_left_alone():
    class Own(keras.Model):
        def call(self, images):
            return images

    model = Own()
    assert folded(model) is model
