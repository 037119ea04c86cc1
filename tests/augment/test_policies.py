import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import config
from simclr_tf.augment import (
    OPERATORS,
    PRESETS,
    ColorJitter,
    GaussianBlur,
    RandomCutout,
    RandomFlip,
    RandomResizedCrop,
    branches,
    make_views,
    policy,
)


def kinds(layers):
    return [type(layer).__name__ for layer in layers]


def test_the_configuration_knows_the_same_names():
    """It cannot import them: it validates before TensorFlow is there."""
    assert set(config.AUGMENTATIONS) == set(OPERATORS)
    assert set(config.AUGMENTATION_PRESETS) == set(PRESETS)


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
    with pytest.raises(ValueError, match="--augmentations must be .*autoaugment.*solarize.*Received: "):
        config.Augmentation(augmentations=names)


def test_branches_crop_both_and_distort_one():
    first, second = branches(policy("crop,flip,jitter,cutout"))
    assert kinds(first) == ["RandomResizedCrop", "RandomFlip", "ColorJitter", "RandomCutout"]
    assert kinds(second) == ["RandomResizedCrop", "RandomFlip"]


def test_branches_of_a_list_without_crop_are_cropped():
    first, second = branches([RandomCutout()])
    assert kinds(first) == ["RandomResizedCrop", "RandomFlip", "RandomCutout"]
    assert kinds(second) == ["RandomResizedCrop", "RandomFlip"]


def test_the_other_branch_is_left_as_it_is():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8))
    views = make_views("crop,gray,invert", asymmetric=True, compiled=False)
    assert [type(layer) for layer in views.second] == [RandomResizedCrop]
    first, second = np.split(views(images, 0).numpy(), 2)
    assert np.abs(first - second).max() > 0.01
    crop = make_views("crop", compiled=False)
    assert not np.allclose(first, np.split(crop(images, 0).numpy(), 2)[0])


def test_default_is_the_papers():
    layers = make_views(compiled=False).layers
    assert isinstance(layers[0], RandomResizedCrop) and layers[0].area == (0.08, 1.0)
    assert isinstance(layers[1], RandomFlip) and layers[1].probability == 0.5
    assert isinstance(layers[2], ColorJitter) and (layers[2].strength, layers[2].probability) == (0.5, 0.8)
    assert layers[3].probability == 0.2
    assert not any(isinstance(layer, GaussianBlur) for layer in layers)
