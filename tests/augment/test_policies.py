import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import (
    OPERATORS,
    PRESETS,
    ColorJitter,
    GaussianBlur,
    RandomFlip,
    RandomResizedCrop,
    make_views,
    policy,
)
from simclr_tf.config import Views, pretraining


def kinds(layers):
    return [type(layer).__name__ for layer in layers]


def test_the_configuration_knows_the_same_names():
    """It cannot import them: it validates before TensorFlow is there."""
    assert set(pretraining.AUGMENTATION_NAMES) == set(OPERATORS)
    assert set(pretraining.PRESET_NAMES) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_made_of_operators(name):
    assert set(PRESETS[name]) <= set(OPERATORS)
    assert kinds(policy(name)) == kinds(OPERATORS[n](1.0) for n in PRESETS[name])


def test_operators_in_order():
    assert kinds(policy("jitter,crop,cutout")) == ["ColorJitter", "RandomResizedCrop", "RandomCutout"]


def test_color_strength_reaches_what_has_one():
    assert [layer.strength for layer in policy("brightness,contrast,saturation,hue,jitter", 0.7)] == [0.7] * 5


def test_blur_is_added_once():
    assert kinds(policy("simclr", blur=True)) == kinds(policy("simclr_blur", blur=True)) == kinds(policy("simclr_blur"))


@pytest.mark.parametrize("names", ["crop,blurr", "", "crop,", "Crop", "simclr,blur"])
def test_unknown_names_are_refused_with_the_known_ones(names):
    with pytest.raises(ValueError, match="autoaugment.*solarize.*Received: "):
        policy(names)
    with pytest.raises(ValueError, match="`augmentations` must be .*autoaugment.*solarize.*Received: "):
        Views(augmentations=names)


def test_asymmetric_views_differ_by_the_augmentations_only():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8))
    first, second = np.split(make_views("invert", asymmetric=True, compiled=False)(images, 0).numpy(), 2)
    inverted = np.abs(first + second - 1.0).max(axis=(1, 2, 3)) < 1e-5
    untouched = np.abs(first - second).max(axis=(1, 2, 3)) == 0.0
    assert (inverted | untouched).all() and inverted.any() and untouched.any()
    assert all(np.abs(second - image).max() > 0.01 for image in images.numpy() / 255.0)  # cropped


def test_asymmetric_crop_is_one_more_crop():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8))
    first, second = np.split(make_views("crop", asymmetric=True, compiled=False)(images, 0).numpy(), 2)
    assert (np.abs(first - second).max(axis=(1, 2, 3)) > 0.01).mean() > 0.5  # a second crop may leave all of it


def test_default_is_the_papers():
    layers = make_views(compiled=False).layers
    assert isinstance(layers[0], RandomResizedCrop) and layers[0].area == (0.08, 1.0)
    assert isinstance(layers[1], RandomFlip) and layers[1].probability == 0.5
    assert isinstance(layers[2], ColorJitter) and (layers[2].strength, layers[2].probability) == (0.5, 0.8)
    assert layers[3].probability == 0.2
    assert not any(isinstance(layer, GaussianBlur) for layer in layers)
