"""A batch in parts has the loss and the gradient of the whole batch, with the memory of a part."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import TwoViews, simclr
from simclr_tf.config import Config
from simclr_tf.networks import projection_head
from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.objectives import Objective, nt_xent
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.accumulate import gradients_in_parts
from simclr_tf.tasks.pretrain import build_model
from simclr_tf.tasks.simclr import SimCLR

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)


def make(accumulate, norm=False, dtype="float64", **settings):
    keras.utils.set_random_seed(0)
    x = images = keras.Input((16, 16, 3))
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, 2, "same", dtype=dtype)(x)
        x = SyncBatchNormalization(dtype=dtype)(x) if norm else x
        x = keras.layers.ReLU(dtype=dtype)(x)
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D(dtype=dtype)(x))
    head = projection_head("linear", 16, 8, dtype=dtype)
    objective = Objective(**settings, dtype=dtype)
    objective.build(head.output_shape)
    model = SimCLR(encoder, head, TwoViews(simclr(), compiled=False), objective, accumulate)
    model.compile(LARS(0.5))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("settings", [{}, {"similarity": "bilinear"}, {"loss": "margin_triplet"}])
def test_the_gradient_is_that_of_the_whole_batch(parts, settings):
    (whole, expected), (contrast, gradients) = (
        make(count, **settings).gradients(tf.constant(IMAGES), 3) for count in (1, parts)
    )
    np.testing.assert_allclose(contrast, whole, rtol=1e-12)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_training_in_parts_is_training():
    models = [make(count) for count in (1, 4)]
    for model in models:
        model.fit(tf.data.Dataset.from_tensors(IMAGES).repeat(), steps_per_epoch=3, verbose=0, shuffle=False)
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-12)


def test_batch_norm_is_over_a_part_and_moves_once_a_part():
    model = make(2, norm=True)
    moving = next(layer for layer in model.encoder.layers if isinstance(layer, SyncBatchNormalization))
    views = model.views(tf.constant(IMAGES), 3)
    first, second = tf.split(views, 2)
    expected = np.zeros(8)
    for part in (slice(0, 4), slice(4, 8)):
        images = tf.cast(tf.concat([first[part], second[part]], 0), tf.float64)
        mean = np.asarray(model.encoder.layers[1](images)).mean(axis=(0, 1, 2))
        expected = 0.9 * expected + 0.1 * mean
    model.gradients(tf.constant(IMAGES), 3)
    np.testing.assert_allclose(moving.moving_mean.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(precision):
    model = make(2, dtype=precision)
    contrast, gradients = model.gradients(tf.constant(IMAGES), 3)
    assert np.isfinite(float(contrast.loss)) and all(np.isfinite(np.asarray(each)).all() for each in gradients)


@pytest.mark.parametrize("parts", [1, 4])
def test_xla_does_not_merge_the_two_passes(parts):
    """Merged, they would keep the activations of all parts: each part's are computed without and then with a tape."""
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(12, 4)), dtype=tf.float32)

    @tf.function(jit_compile=True)
    def step(views):
        return gradients_in_parts(
            lambda part: tf.tanh(part @ kernel), lambda z: (nt_xent(z), nt_xent(z).loss), [kernel], views, parts
        )

    compiled = step.experimental_get_compiler_ir(tf.zeros((16, 12)))(stage="optimized_hlo")
    assert len(re.findall(r"= \S+ tanh\(", compiled)) == 2 * parts


@pytest.mark.parametrize("setting", [{"accumulate": 2}, {"on_nan": "skip"}])
def test_statistics_of_keras_own_batch_norm_would_move_too_often(setting):
    settings = {"encoder": "tests.tiny:foreign_norm", "augmentations": "flip"}
    build_model(Config.of(**settings), (16, 16, 3))
    (name,) = setting
    with pytest.raises(ValueError, match=f"`{name}.*needs simclr_tf.SyncBatchNormalization.*Received: .*Keras'"):
        build_model(Config.of(**settings, **setting), (16, 16, 3))


def test_it_is_saved_with_the_model():
    assert SimCLR.from_config(make(4, dtype="float32").get_config()).accumulate == 4


@pytest.mark.slow
def test_parts_must_divide_the_images_of_a_device(run_python, tmp_path):
    done = run_python(
        "train.py", "--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=32", "--accumulate=3",
        f"--run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert "--accumulate must divide the 32 images of a device" in done.stderr


def noisy(image_shape):
    return keras.Sequential(
        [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(4)]
    )


def test_random_layers_do_not_go_with_parts():
    settings = {"encoder": f"{__name__}:noisy", "batch_size": 8, "augmentations": "flip"}
    build_model(Config.of(**settings), (8, 8, 3))
    with pytest.raises(ValueError, match="an encoder without random layers.*Received: `accumulate=2`"):
        build_model(Config.of(**settings, accumulate=2), (8, 8, 3))
