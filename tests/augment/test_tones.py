import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from scipy import stats

from simclr_tf.augment import Invert, Posterize, Solarize
from simclr_tf.augment.histogram import autocontrast, equalize


def by_pil(images, *operate):
    return np.stack([np.asarray(f(Image.fromarray(x))) for f, x in zip(operate, images, strict=True)]) / 255


def by_channel(operate, images):
    return np.stack([operate(plane) for plane in tf.unstack(tf.constant(images / 255, tf.float32), axis=-1)], -1)


def test_solarize_equals_pil(images, apply):
    threshold = [0, 64, 128, 200, 255, 256]
    expected = by_pil(images, *(lambda x, t=t: ImageOps.solarize(x, t) for t in threshold))
    # PIL inverts from the threshold on, ours above it: between two bytes they are the same.
    between = np.float32([(t - 0.5) / 255 for t in threshold])
    np.testing.assert_allclose(apply(Solarize(), images, threshold=between), expected, atol=1e-6)


def test_posterize_equals_pil(images, apply):
    bits = [1, 2, 3, 5, 7, 8]
    expected = by_pil(images, *(lambda x, b=b: ImageOps.posterize(x, b) for b in bits))
    np.testing.assert_allclose(apply(Posterize(), images, bits=np.float32(bits)), expected, atol=1e-6)


def test_invert_equals_pil(images, apply):
    np.testing.assert_allclose(apply(Invert(), images), by_pil(images, *[ImageOps.invert] * 6), atol=1e-6)


def test_every_number_of_bits_is_equally_likely():
    bits = Posterize((3, 6)).draw(tf.constant([0, 1]), 10_000, (8, 8, 3))["bits"].numpy()
    assert stats.chisquare(np.bincount(bits.astype(int))[3:]).pvalue > 1e-3


def test_autocontrast_equals_pil(images):
    images = images // 2 + 40
    images[0] = 7  # a flat image stays as it is
    expected = by_pil(images, *[ImageOps.autocontrast] * 6)
    found = by_channel(autocontrast, images)
    np.testing.assert_allclose(found, expected, atol=1.01 / 255)  # PIL rounds down


@pytest.mark.parametrize("repeat", [1, 4])
def test_equalize_equals_pil(images, repeat):
    images = (images // 3 + 40).repeat(repeat, 1).repeat(repeat, 2)
    images[0] = 7
    images[1, :, :8] = 0
    found = by_channel(equalize, images)
    np.testing.assert_allclose(found, by_pil(images, *[ImageOps.equalize] * 6), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: Solarize((0.5, 1.5)), lambda: Posterize((0, 4)), lambda: Posterize((5, 3))])
def test_wrong_parameters_are_refused(make):
    with pytest.raises(ValueError, match="Received: "):
        make()
