"""Rising resolutions: which epoch has which, what the views become, and a whole run of them."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import RandomFlip, RandomResizedCrop, TwoViews, make_views, simclr
from simclr_tf.config import Config, Network
from simclr_tf.encoders import build_encoder, load_encoder
from simclr_tf.networks import projection_head
from simclr_tf.tasks.pretrain import pretrain
from simclr_tf.tasks.resolutions import Resolutions
from simclr_tf.tasks.simclr import SimCLR

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def test_every_part_of_the_run_has_its_side():
    assert [Resolutions((16, 24, 32), 7).side(epoch) for epoch in range(7)] == [16, 16, 16, 24, 24, 32, 32]
    assert [Resolutions((16, 16, 32), 3).side(epoch) for epoch in range(3)] == [16, 16, 32]


@pytest.mark.parametrize("compiled", [True, False])
def test_resized_views_are_those_of_a_crop_of_that_size(compiled):
    layers = simclr()[: 2 if compiled else None]  # the crop and the flip: to compile the others takes seconds
    views = TwoViews(layers, seed=3, compiled=compiled)
    before = views(IMAGES, 5)
    assert views.resize(16) and not views.resize(16)
    crop, *others = layers
    same = TwoViews([RandomResizedCrop(crop.area, crop.aspect, size=16), *others], seed=3, compiled=compiled)
    assert views(IMAGES, 5).shape == (12, 16, 16, 3)
    np.testing.assert_array_equal(views(IMAGES, 5), same(IMAGES, 5))
    assert views.resize(32)
    np.testing.assert_array_equal(views(IMAGES, 5), before)


def test_a_shared_crop_resizes_both_views():
    views = make_views("flip", asymmetric=True, compiled=False)
    views.resize(16)
    assert views(IMAGES, 0).shape == (12, 16, 16, 3)


def test_views_without_a_crop_are_refused():
    with pytest.raises(ValueError, match="resized by their crop.*Received: 16 pixels"):
        TwoViews([RandomFlip()]).resize(16)


def nested(image_shape):
    stem = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    return keras.Sequential([keras.Input(image_shape), stem, keras.layers.GlobalAveragePooling2D()])


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v2", "tests.tasks.test_resolutions:nested"])
def test_an_encoder_for_any_size_is_the_same_function(name):
    network = Network(encoder=name, width=1.0 if ":" in name else 0.125)
    keras.utils.set_random_seed(0)
    fixed = build_encoder(network, (32, 32, 3))
    keras.utils.set_random_seed(0)
    free = build_encoder(network, (32, 32, 3), smallest=16)
    assert [v.path for v in fixed.variables] == [v.path for v in free.variables]
    images = tf.constant(IMAGES / np.float32(255))
    np.testing.assert_allclose(free(images), fixed(images), rtol=1e-5, atol=1e-6)
    assert free(images[:, :16, :16]).shape == fixed(images).shape


def flat(image_shape):
    return keras.Sequential([keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(4)])


def test_an_encoder_that_depends_on_the_size_is_refused():
    with pytest.raises(ValueError, match="`resolutions` needs a convolutional encoder.*Received: .*'dense"):
        build_encoder(Network(encoder="tests.tasks.test_resolutions:flat"), (32, 32, 3), smallest=16)


def test_maps_that_would_vanish_are_refused():
    with pytest.raises(ValueError, match="`resolutions` needs .* images of 8 pixels"):
        build_encoder(Network(encoder="vgg11", width=0.0625), (32, 32, 3), smallest=8)


@pytest.mark.parametrize("text", ["16,", "a,32", "4,32", "16,16,24,32"])
def test_what_is_no_list_of_sides_is_refused(text):
    with pytest.raises(ValueError, match=f"`resolutions`.*Received: `resolutions={text}` with `epochs=3`"):
        Config.of(resolutions=text, epochs=3)


@pytest.mark.slow
def test_a_run_rises_resumes_and_is_judged_at_full_size(run_python, tmp_path):
    flags = ["--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=512", "--epochs=2",
             "--checkpoint_epochs=1", "--resolutions=16,32", "--deterministic"]  # fmt: skip

    def train(folder, *extra):
        result = run_python("train.py", *flags, f"--run_dir={tmp_path / folder}", *extra)
        assert (result.returncode, result.stderr) == (0, "")
        with (tmp_path / folder / "metrics.csv").open() as file:
            return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]

    whole = train("whole")
    train("resumed", "--max_steps=8")
    assert train("resumed", "--resume") == whole
    assert load_encoder(tmp_path / "whole").input_shape == (None, 32, 32, 3)
    wrong = run_python("train.py", *flags, "--resolutions=16,24", f"--run_dir={tmp_path / 'wrong'}")
    assert wrong.returncode == 1 and "--resolutions must end with the side of the images" in wrong.stderr


def test_views_without_a_crop_are_refused_before_anything_is_written(tmp_path):
    config = Config.of(
        dataset="patterns", encoder="tests.tasks.test_resolutions:nested", batch_size=512, epochs=2,
        augmentations="jitter", resolutions="16,32", run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    with pytest.raises(
        ValueError, match="resized by their crop: name one in `augmentations`, or leave `resolutions` out"
    ):
        pretrain(config)
    assert not (tmp_path / "run").exists()


def test_fit_trains_at_the_side_of_each_epoch():
    """Keras keeps traced functions for the whole of fit; the second epoch must not run the first one's."""
    traced = []

    class Recording(SimCLR):
        def call(self, images, training=False):
            traced.append(images.shape[1])
            return super().call(images, training=training)

    layers = [keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, 2), keras.layers.GlobalAveragePooling2D()]
    model = Recording(keras.Sequential(layers), projection_head("linear", 4, 4), TwoViews([RandomResizedCrop()]))
    model.compile("sgd")
    model.fit(IMAGES, epochs=3, batch_size=6, callbacks=[Resolutions((16, 32), 3)], verbose=0)
    assert list(dict.fromkeys(traced)) == [16, 32]
