import json

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import (
    ColorJitter,
    GaussianNoise,
    Invert,
    RandomFlip,
    RandomResizedCrop,
    RandomRotate,
    SobelFilter,
    TwoViews,
    simclr,
)
from simclr_tf.augment import two_views as module


@pytest.fixture(scope="module")
def batch():
    return tf.constant(np.random.default_rng(2).integers(0, 256, (8, 12, 10, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def policy():
    """The paper's augmentation, and what draws most: noise."""
    return [*simclr(blur=True), GaussianNoise()]


@pytest.fixture(scope="module")
def views(policy):
    return TwoViews(policy, seed=1)


def test_views_differ_between_images_views_steps_and_seeds(batch, views, policy):
    same = tf.repeat(batch[:1], 8, axis=0)
    first = views(same, 0).numpy()
    assert first.shape == (16, 12, 10, 3) and first.dtype == np.float32
    everything = np.concatenate([first, views(same, 1), TwoViews(policy, seed=2, compiled=False)(same, 0)])
    assert len(np.unique(everything.round(3).reshape(48, -1), axis=0)) == 48
    np.testing.assert_array_equal(first, views(same, 0))


def test_plain_and_compiled_agree(batch, views, policy):
    np.testing.assert_allclose(TwoViews(policy, 1, compiled=False)(batch, 5), views(batch, 5), atol=2e-5)


@pytest.mark.parametrize(("replicas", "compiled"), [(2, True), (4, False), (8, False)])
def test_replicas_make_the_views_of_one_device(batch, views, policy, monkeypatch, replicas, compiled):
    whole = np.split(views(batch, 3).numpy(), 2)
    split = TwoViews(policy, seed=1, compiled=compiled)
    monkeypatch.setattr(module, "num_replicas", lambda: replicas)
    parts = []
    for replica, part in enumerate(tf.split(batch, replicas)):
        monkeypatch.setattr(module, "replica_id", lambda replica=replica: tf.constant(replica))
        parts.append(np.split(split(part, 3).numpy(), 2))
    for view in range(2):
        np.testing.assert_allclose(np.concatenate([p[view] for p in parts]), whole[view], atol=2e-5)


def test_within_a_compiled_step(batch, views):
    step = tf.function(lambda images, step: views(images, step), jit_compile=True)
    np.testing.assert_allclose(step(batch, tf.constant(3)), views(batch, 3), atol=2e-5)


def test_a_batch_of_unknown_size(batch, views):
    step = tf.function(lambda images: views(images, 3), input_signature=[tf.TensorSpec([None, 12, 10, 3], tf.uint8)])
    np.testing.assert_allclose(step(batch), views(batch, 3), atol=2e-5)


def test_arrays_outside_of_a_graph(batch, views):
    np.testing.assert_array_equal(
        TwoViews([], compiled=False)(batch.numpy(), 0), TwoViews([], compiled=False)(batch, 0)
    )
    np.testing.assert_array_equal(views(batch.numpy(), 3), views(batch, 3))


def test_a_second_list_for_the_second_view(batch):
    views = TwoViews([RandomFlip(1.0)], second=[], compiled=False)
    first, second = np.split(views(batch, 0).numpy(), 2)
    np.testing.assert_allclose(second, batch.numpy() / np.float32(255), atol=1e-7)
    np.testing.assert_array_equal(first, second[:, :, ::-1])


def test_layers_of_others_between_ours(batch):
    """A Keras layer without randomness, which knows `training`, and a Keras-CV layer, which does not."""
    stack = [RandomFlip(1.0), keras.layers.RandomContrast(0.0), keras_cv.layers.Grayscale(3), Invert(1.0)]
    first, second = np.split(TwoViews(stack)(batch, 0).numpy(), 2)
    gray = (batch.numpy() / 255) @ [0.2989, 0.587, 0.114]
    np.testing.assert_allclose(first, 1 - np.repeat(gray[:, :, ::-1, None], 3, -1), atol=1e-2)
    np.testing.assert_array_equal(first, second)


def test_a_foreign_layer_trains(batch):
    noise = keras.layers.GaussianNoise(0.5, seed=3)
    found = TwoViews([noise])(batch, 0).numpy()
    assert found.std() > 0.4 and found.dtype == np.float32


@pytest.mark.parametrize(
    "arguments",
    [{}, {"seed": 5, "second": [RandomFlip(1.0)], "compiled": True, "shared": [RandomResizedCrop()]}, {"second": []}],
)
def test_a_copy_from_the_configuration_makes_the_same_views(batch, arguments):
    """With the layers of others, whose state starts anew."""
    stack = [ColorJitter(), keras_cv.layers.Grayscale(3), keras.layers.GaussianNoise(0.1, seed=3), RandomFlip()]
    views = TwoViews(stack, **{"compiled": False} | arguments)
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(views))))
    assert copy.get_config() == views.get_config()
    assert (copy.seed, copy.compiled) == (views.seed, views.compiled)
    np.testing.assert_array_equal(copy(batch, 3), views(batch, 3))


def test_layers_that_read_neighbors_are_programs_of_their_own():
    """Compiled as one, XLA worked out a rotation again for every use that the jitter makes of a pixel: for minutes."""
    flip, jitter, sobel, rotate, foreign = (
        RandomFlip(), ColorJitter(), SobelFilter(), RandomRotate(), keras.layers.Rescaling(1.0)
    )  # fmt: skip
    segments = module._segments([flip, jitter, sobel, foreign, rotate, flip, foreign])
    assert [[place for place, _ in segment] for segment in segments] == [[0, 1], [2], [3], [4], [5], [6]]


def test_real_replicas_and_deterministic_kernels_make_the_same_views(run_python, tmp_path):
    """In a process of its own, because TensorFlow cannot go back."""
    script = tmp_path / "replicas.py"
    script.write_text(
        "import keras, numpy as np, tensorflow as tf\n"
        "from simclr_tf.augment import OPERATORS, TwoViews\n"
        "tf.config.set_logical_device_configuration(\n"
        "    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "keras.utils.set_random_seed(0)\n"
        "tf.config.experimental.enable_op_determinism()\n"
        "strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "images = tf.random.stateless_uniform([4, 9, 9, 3], [1, 2])\n"
        "views = TwoViews([make(0.5) for make in OPERATORS.values()], seed=1, compiled=False)\n"
        "whole = views(images, 0).numpy()\n"
        "assert (whole == views(images, 0).numpy()).all()\n"
        "parts = strategy.experimental_distribute_values_from_function(\n"
        "    lambda c: images[2 * c.replica_id_in_sync_group:][:2])\n"
        "found = strategy.experimental_local_results(\n"
        "    strategy.run(lambda part: views(part, 0), args=(parts,)))\n"
        "found = np.concatenate([np.split(part.numpy(), 2) for part in found], axis=1)\n"
        "assert np.abs(found.reshape(whole.shape) - whole).max() < 1e-5\n"
    )
    result = run_python(script)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 2), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.int64)]
)
@pytest.mark.parametrize("layers", [[], [RandomResizedCrop()], [keras.layers.Rescaling(1.0)]])
def test_what_is_no_batch_of_images_is_refused(layers, images):
    with pytest.raises(ValueError, match="Expected images .* Received: "):
        TwoViews(layers)(tf.constant(images), 0)


def test_a_crop_of_some_images_cannot_resize_them():
    with pytest.raises(ValueError, match="All images must be cropped to have one size. Received: 16 pixels"):
        TwoViews([RandomResizedCrop(probability=0.5)]).resize(16)


@pytest.mark.parametrize("layer", [RandomFlip(), RandomResizedCrop(method="bicubic")])
def test_images_that_a_reader_cut_need_views_that_it_can_cut(layer):
    with pytest.raises(ValueError, match=r"must begin with a bilinear crop.* Received: shape \(2, 2, 8, 8, 3\)"):
        TwoViews([layer])(np.zeros((2, 2, 8, 8, 3), np.uint8), 0)


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match="must be Keras layers. Received: 'crop'"):
        TwoViews(["crop"])


@pytest.mark.parametrize("compiled", [False, True])
def test_float_images_beyond_1_are_refused(compiled):
    """Bytes as floats, which tf.keras.utils.image_dataset_from_directory gives, would be nearly all white."""
    views, images = TwoViews([RandomFlip()], compiled=compiled), np.full((2, 8, 8, 3), 255.0, np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 1\]"):
        views(images, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 1\]"):
        tf.function(views)(images, 0)
    assert views(images / 255, 0).shape == (4, 8, 8, 3)
