"""What every operator promises, whatever it does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import augment
from simclr_tf.augment import OPERATORS

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
    "rotate": lambda: augment.RandomRotate(0.0),
    "rotate90": lambda: augment.RandomRotate90(0.0),
    "saturation": lambda: augment.RandomSaturation(0.0, 1.0),
    "shift": lambda: augment.RandomCrop(0.0),
    "sobel": lambda: augment.SobelFilter((0.0, 0.0)),
    "solarize": lambda: augment.Solarize((1.0, 1.0), 1.0),
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
    if name in ("flip", "gray", "invert", "sobel", "solarize"):
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
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.int32),
    ],
)
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_is_no_batch_of_images_is_refused(name, batch):
    with pytest.raises(ValueError, match="Expected images .* Received: "):
        operator(name)(batch)
