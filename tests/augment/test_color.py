import colorsys
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from simclr_tf.augment import (
    ColorJitter,
    RandomBrightness,
    RandomContrast,
    RandomGrayscale,
    RandomHue,
    RandomSaturation,
)

FACTORS = np.float32([0.2, 0.6, 1.0, 1.3, 1.7, 0.0])
TURNS = np.float32([-0.2, -0.05, 0.0, 0.1, 0.2, 0.45])


def gray(x):
    return (x @ [0.299, 0.587, 0.114])[..., None]


def brightness(x, f):
    return np.clip(f * x, 0, 1)


def contrast(x, f):
    return np.clip(f * x + (1 - f) * gray(x).mean(), 0, 1)


def saturation(x, f):
    return np.clip(f * x + (1 - f) * gray(x), 0, 1)


def hue(x, turn):
    hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)]
    return np.reshape([colorsys.hsv_to_rgb((h + turn) % 1.0, s, v) for h, s, v in hsv], x.shape)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [(RandomBrightness(), brightness), (RandomContrast(), contrast), (RandomSaturation(), saturation)],
)
def test_factors_equal_their_definitions(images, apply, layer, reference):
    found = apply(layer, images, factor=FACTORS)
    expected = [reference(x / 255, f) for x, f in zip(images, FACTORS, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_hue_equals_colorsys(images, apply):
    images = images.copy()
    images[:, :4, :4] = images[:, :4, :4, :1]  # some gray, and the corners of the color cube
    images[:, -1, :8] = 255 * np.array(list(itertools.product([0, 1], repeat=3)))
    expected = [hue(x / 255, turn) for x, turn in zip(images, TURNS, strict=True)]
    np.testing.assert_allclose(apply(RandomHue(), images, turns=TURNS), expected, atol=3e-6)


def test_gray_equals_pil(images, apply):
    found = apply(RandomGrayscale(1.0), images)
    for image, ours in zip(images, found, strict=True):
        np.testing.assert_allclose(ours[..., 0], np.asarray(Image.fromarray(image).convert("L")) / 255, atol=0.51 / 255)
        np.testing.assert_array_equal(ours[..., 0], ours[..., 2])


def test_jitter_equals_its_operations_one_by_one_in_every_order(images, apply):
    orders = list(itertools.permutations(range(4)))
    batch = images[np.arange(len(orders)) % len(images)]
    rng = np.random.default_rng(1)
    b, c, s = rng.uniform(0.3, 1.7, (3, len(orders))).astype(np.float32)
    turns = rng.uniform(-0.2, 0.2, len(orders)).astype(np.float32)
    place = np.argsort(orders, axis=1).astype(np.int32)
    found = apply(ColorJitter(), batch, brightness=b, contrast=c, saturation=s, turns=turns, place=place)
    for i, order in enumerate(orders):
        expected = batch[i] / 255
        for operation in order:
            reference = (brightness, contrast, saturation, hue)[operation]
            expected = reference(expected, (b, c, s, turns)[operation][i])
        np.testing.assert_allclose(found[i], expected, atol=1e-5, err_msg=str(order))


def test_jitter_follows_its_laws():
    drawn = {k: v.numpy() for k, v in ColorJitter(0.5).draw(tf.constant([1, 2]), 10_000, (8, 8, 3)).items()}
    for name in ("brightness", "contrast", "saturation"):
        assert stats.kstest(drawn[name], stats.uniform(0.6, 0.8).cdf).pvalue > 1e-3
    assert stats.kstest(drawn["turns"], stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
    assert stats.binomtest(int(drawn["chosen"].sum()), 10_000, 0.8).pvalue > 1e-3
    orders, counts = np.unique(drawn["place"], axis=0, return_counts=True)
    assert len(orders) == 24 and stats.chisquare(counts).pvalue > 1e-3
    assert (
        np.abs(np.corrcoef([drawn[k] for k in ("brightness", "contrast", "saturation", "turns")]) - np.eye(4)).max()
        < 0.04
    )


def test_a_gray_image_is_brightened_but_has_no_hue(images, apply):
    single = images[..., :1]
    np.testing.assert_array_equal(apply(RandomHue(), single, turns=TURNS), np.float32(single) / np.float32(255))
    np.testing.assert_array_equal(
        apply(RandomSaturation(), single, factor=FACTORS), np.float32(single) / np.float32(255)
    )
    three = apply(RandomContrast(), np.repeat(single, 3, axis=-1), factor=FACTORS)
    np.testing.assert_allclose(apply(RandomContrast(), single, factor=FACTORS), three[..., :1], atol=1e-6)


@pytest.mark.parametrize("layer", [ColorJitter, RandomBrightness, RandomContrast, RandomHue, RandomSaturation])
@pytest.mark.parametrize("strength", [-0.1, 2.6, float("nan")])
def test_wrong_strengths_are_refused(layer, strength):
    with pytest.raises(ValueError, match="`strength` must lie between 0 and 2.5. Received: "):
        layer(strength)
