"""What every operator promises, whatever it does."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import augment
from simclr_tf.augment import OPERATORS
from tests.conftest import ROOT

# Each at strength, or probability, 0.
IDENTITIES = {
    "autoaugment": lambda: augment.AutoAugment(0.0),
    "blur": lambda: augment.GaussianBlur(probability=0.0),
    "brightness": lambda: augment.RandomBrightness(0.0, 1.0),
    "contrast": lambda: augment.RandomContrast(0.0, 1.0),
    "crop": lambda: augment.RandomResizedCrop((1.0, 1.0)),
    "crop_bicubic": lambda: augment.RandomResizedCrop((1.0, 1.0), method="bicubic"),
    "cutout": lambda: augment.RandomCutout((0.0, 0.0)),
    "flip": lambda: augment.RandomFlip(0.0),
    "gray": lambda: augment.RandomGrayscale(0.0),
    "hue": lambda: augment.RandomHue(0.0, 1.0),
    "invert": lambda: augment.Invert(0.0),
    "jitter": lambda: augment.ColorJitter(0.0, 1.0),
    "noise": lambda: augment.GaussianNoise((0.0, 0.0)),
    "posterize": lambda: augment.Posterize((8, 8), 1.0),
    "random_sobel": lambda: augment.SobelFilter(probability=0.0),
    "rotate": lambda: augment.RandomRotate(0.0),
    "rotate90": lambda: augment.RandomRotate90(0.0),
    "saturation": lambda: augment.RandomSaturation(0.0, 1.0),
    "shift": lambda: augment.RandomCrop(0.0),
    "sobel": lambda: augment.SobelFilter((0.0, 0.0)),
    "solarize": lambda: augment.Solarize((1.0, 1.0), 1.0),
}

# Another value for each argument of each layer.
ARGUMENTS = {
    "AutoAugment": {"probability": 0.9},
    "ColorJitter": {"strength": 0.3, "probability": 0.9},
    "GaussianBlur": {"sigma": (0.5, 1.0), "probability": 0.9},
    "GaussianNoise": {"deviation": (0.05, 0.3), "probability": 0.9},
    "Invert": {"probability": 0.9},
    "Posterize": {"bits": (2, 3), "probability": 0.9},
    "RandomBrightness": {"strength": 0.3, "probability": 0.9},
    "RandomContrast": {"strength": 0.3, "probability": 0.9},
    "RandomCrop": {"shift": 0.3, "probability": 0.9},
    "RandomCutout": {"side": (0.2, 0.4), "fill": 0.1, "probability": 0.9},
    "RandomFlip": {"probability": 0.9},
    "RandomGrayscale": {"probability": 0.9},
    "RandomHue": {"strength": 0.3, "probability": 0.9},
    "RandomResizedCrop": {
        "area": (0.5, 0.6),
        "aspect": (0.9, 1.1),
        "method": "bicubic",
        "law": "google",
        "size": 9,
        "probability": 1.0,
    },
    "RandomRotate": {"degrees": 90.0, "probability": 0.9},
    "RandomRotate90": {"probability": 0.9},
    "RandomSaturation": {"strength": 0.3, "probability": 0.9},
    "SobelFilter": {"amount": (0.3, 0.6), "probability": 0.9},
    "Solarize": {"threshold": (0.3, 0.6), "probability": 0.9},
}


def operator(name):
    layer = OPERATORS[name](0.5)
    layer.probability = 1.0
    return layer


def one_pass(layer):
    """Draws and transforms: a function of images and key."""
    return lambda images, key: layer.augment_images(images, layer.draw(key, images.shape[0], images.shape[1:]))


@pytest.fixture(scope="module")
def floats(images):
    return tf.constant(images / 255, tf.float32)


def test_every_operator_is_tested():
    assert set(IDENTITIES) == set(OPERATORS)
    public = [getattr(augment, name) for name in augment.__all__]
    layers = {x.__name__ for x in public if isinstance(x, type) and issubclass(x, augment.Augmentation)}
    assert set(ARGUMENTS) == layers - {"Augmentation"} == {type(make(0.5)).__name__ for make in OPERATORS.values()}


@pytest.mark.parametrize("arguments", ["default", "other"])
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_copy_from_the_configuration_does_the_same(name, arguments, floats):
    """By `from_config`, and by way of the JSON of a saved model."""
    layer = getattr(augment, name)(**(ARGUMENTS[name] if arguments == "other" else {}), name="mine")
    config, serialized = layer.get_config(), keras.saving.serialize_keras_object(layer)
    assert config["name"] == "mine" and serialized["registered_name"] == f"simclr_tf>{name}"
    assert set(ARGUMENTS[name]) == set(config) - {"name", "trainable", "dtype"}
    if arguments == "other":
        assert ARGUMENTS[name].items() <= config.items()
    expected = one_pass(layer)(floats, tf.constant([1, 2]))
    loaded = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    for copy in (type(layer).from_config(config), loaded):
        assert type(copy) is type(layer) and copy.get_config() == config
        np.testing.assert_array_equal(one_pass(copy)(floats, tf.constant([1, 2])), expected)


def test_subclasses_have_a_configuration_too():
    class Weak(augment.ColorJitter):
        def __init__(self, floor=0.1, **kwargs):
            super().__init__(**kwargs)
            self.floor = floor

    config = Weak(floor=0.2, strength=0.3).get_config()
    assert (config["floor"], config["strength"], config["probability"]) == (0.2, 0.3, 0.8)
    assert Weak.from_config(config).get_config() == config


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_compiled_equals_uncompiled(name, floats):
    run, key = one_pass(operator(name)), tf.constant([1, 2])
    # Images and key are arguments: as constants they would be folded away, and with them what cannot be compiled.
    compiled = tf.function(run, jit_compile=True)(floats, key).numpy()
    plain = run(floats, key).numpy()
    assert compiled.dtype == np.float32 and compiled.shape == floats.shape
    assert 0.0 <= compiled.min() and compiled.max() <= 1.0
    # The other rounding may take another pixel or another step of a curve, but rarely.
    assert np.mean(np.abs(compiled - plain) > 2e-5) <= (0.01 if name in ("autoaugment", "posterize") else 0.0)
    assert np.abs(compiled - floats).max() > 0.02


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_nothing_is_changed_at_strength_or_probability_zero(name, floats):
    found = one_pass(IDENTITIES[name]())(floats, tf.constant([3, 4]))
    np.testing.assert_allclose(found, floats, atol=1e-6 if "crop" in name else 0.0)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_keys_and_images_differ_and_the_same_key_repeats(name, floats):
    layer = operator(name)
    same = tf.repeat(floats[:1], 24, axis=0)
    first, again, other = (one_pass(layer)(same, tf.constant(key)).numpy() for key in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    if name in ("flip", "gray", "invert", "random_sobel", "sobel", "solarize"):
        return  # with probability 1 these have nothing to draw
    if name == "rotate90":  # of an image that is not square: a half turn
        return
    assert np.abs(first - other).max() > 1e-3
    assert len(np.unique(first.reshape(24, -1), axis=0)) >= (3 if name == "posterize" else 8)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_called_as_a_layer(name, images):
    """Bytes or floats in, one channel or three, even an image of few pixels, and whatever the global precision."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = operator(name)
        found = layer(images[..., :1])
        assert found.dtype == tf.float32 and found.shape == (6, 20, 16, 1)
        assert 0.0 <= np.min(found) and np.max(found) <= 1.0
        assert layer(tf.constant(images[:2, :5, :3] / 255, tf.float16)).shape == (2, 5, 3, 3)
        assert layer({"images": tf.constant(images[:1]), "labels": tf.constant([1])})["images"].dtype == tf.float32
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 8, 8, 2), np.uint8),
        np.zeros((2, 8, 8, 4), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 2, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((2, 8, 8, 3), np.int32),
    ],
)
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_is_no_image_is_refused(name, batch):
    with pytest.raises(ValueError, match="Expected images .* Received: "):
        operator(name)(batch)


def test_the_examples_of_the_documentation_run(images):
    text = (ROOT / "docs" / "augmentations.md").read_text()
    names = {"images": tf.constant(images), "labels": tf.range(6), "layers": [augment.RandomFlip()], "step": 0}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/augmentations.md", "exec"), names)
    assert names["both"].shape == (12, 20, 16, 3)
    gamma = names["RandomGamma"]((2.0, 2.0))
    np.testing.assert_allclose(gamma(images), (images / 255) ** 2, atol=1e-6)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(gamma))
    assert copy.get_config() == gamma.get_config()
