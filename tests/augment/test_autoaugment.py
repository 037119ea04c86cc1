import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from simclr_tf.augment import AutoAugment
from simclr_tf.augment.autoaugment import CIFAR10_POLICY, NOTHING, OPERATIONS, RANGES, operate
from simclr_tf.augment.base import to_float

GRAY = (128, 128, 128)


def affine(*coefficients):
    return lambda x: x.transform(x.size, Image.Transform.AFFINE, coefficients, fillcolor=GRAY)


def enhance(kind, m):
    return lambda x: kind(x).enhance(1 + m)


# Operation, magnitude, the same by PIL, tolerance in bytes: PIL rounds means, and takes down what it stretches.
CASES = [
    ("autocontrast", 0.0, ImageOps.autocontrast, 1.01),
    ("brightness", 0.7, enhance(ImageEnhance.Brightness, 0.7), 1.01),
    ("color", -0.4, enhance(ImageEnhance.Color, -0.4), 1.01),
    ("contrast", 0.6, enhance(ImageEnhance.Contrast, 0.6), 1.51),
    ("equalize", 0.0, ImageOps.equalize, 0.01),
    ("invert", 0.0, ImageOps.invert, 0.01),
    ("posterize", 3.0, lambda x: ImageOps.posterize(x, 5), 0.01),
    ("sharpness", 0.9, enhance(ImageEnhance.Sharpness, 0.9), 1.51),
    ("sharpness", -0.6, enhance(ImageEnhance.Sharpness, -0.6), 1.51),
    ("shear_y", 0.21, affine(1, 0, 0, 0.21, 1, 0), 0.01),
    ("solarize", 0.3001, lambda x: ImageOps.solarize(x, 179), 0.01),
    ("translate_x", -0.2, affine(1, 0, -0.2 * 16, 0, 1, 0), 0.01),
    ("translate_y", 0.33, affine(1, 0, 0, 0, 1, 0.33 * 20), 0.01),
]


def by_us(images, operations, magnitudes):
    planes = tf.unstack(to_float(tf.constant(images)), axis=-1)
    return np.stack(operate(planes, tf.constant(operations), tf.constant(magnitudes, tf.float32)), -1)


def test_operations_equal_pil_side_by_side_in_one_batch(images):
    batch = images[np.arange(len(CASES)) % len(images)]
    found = 255 * by_us(batch, [OPERATIONS.index(name) for name, *_ in CASES], [m for _, m, *_ in CASES])
    for image, ours, (name, m, reference, tolerance) in zip(batch, found, CASES, strict=True):
        expected = np.asarray(reference(Image.fromarray(image))).astype(float)
        np.testing.assert_allclose(ours, expected, atol=tolerance, err_msg=f"{name} {m}")


def test_rotation_equals_pil_but_for_a_pixel_here_and_there(images):
    """PIL's angle goes through degrees and 16-bit fixed point: at ties of two pixels it may take the other."""
    found = 255 * by_us(images[:1], [OPERATIONS.index("rotate")], [np.radians(23.0)])
    expected = np.asarray(Image.fromarray(images[0]).rotate(23.0, fillcolor=GRAY))
    assert np.mean(np.abs(found[0] - expected).max(-1) > 0.01) < 0.02


def test_nothing_is_nothing(images):
    np.testing.assert_array_equal(by_us(images, [NOTHING] * 6, [0.9] * 6), images.astype(np.float32) / 255)


def test_draws_follow_the_policy():
    drawn = AutoAugment().draw(tf.constant([1, 2]), 50_000, (32, 32, 3))
    operation, magnitude = drawn["operation"].numpy(), drawn["magnitude"].numpy()
    for place in range(2):
        expected = np.zeros(NOTHING + 1)
        for pair in CIFAR10_POLICY:
            name, chance, _ = pair[place]
            expected[OPERATIONS.index(name)] += chance / 25
            expected[NOTHING] += (1 - chance) / 25
        counts = np.bincount(operation[:, place], minlength=NOTHING + 1)
        assert (counts[expected == 0] == 0).all()
        assert stats.chisquare(counts[expected > 0], 50_000 * expected[expected > 0]).pvalue > 1e-3
    turned = magnitude[operation == OPERATIONS.index("rotate")]
    np.testing.assert_allclose(np.unique(np.abs(turned)), np.radians(30) * 2 / 9, rtol=1e-6)
    assert stats.binomtest(int((turned > 0).sum()), len(turned)).pvalue > 1e-3
    assert (magnitude[operation == OPERATIONS.index("posterize")] == 3).all()


def test_the_policy_is_well_formed():
    assert len(CIFAR10_POLICY) == 25
    for name, chance, level in (step for pair in CIFAR10_POLICY for step in pair):
        assert name in RANGES and 0 <= chance <= 1 and 0 <= level <= 9


def test_a_gray_image_stays_gray(images):
    three = np.repeat(images[..., :1], 3, axis=-1)
    for name in ("color", "equalize", "sharpness", "contrast"):
        index = [OPERATIONS.index(name)] * 6
        one = by_us(images[..., :1], index, [0.5] * 6)
        np.testing.assert_allclose(by_us(three, index, [0.5] * 6), np.repeat(one, 3, axis=-1), atol=1e-6)


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_wrong_probabilities_are_refused(probability):
    with pytest.raises(ValueError, match="Received: "):
        AutoAugment(probability)


def test_what_a_crop_rounds_to_above_1_stays_white():
    planes = [tf.fill([2, 6, 6], 1.003)] * 3
    found = operate(planes, tf.constant([NOTHING, OPERATIONS.index("equalize")]), tf.constant([0.0, 0.0]))
    np.testing.assert_array_equal(found, np.ones((3, 2, 6, 6)))


@pytest.mark.parametrize("shape", [(1, 8, 1, 3), (1, 2, 8, 3)])
def test_images_of_one_pixel_across_keep_their_shape(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert by_us(images, [OPERATIONS.index("sharpness")], [0.5]).shape == shape
