import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from simclr_tf.augment import GaussianBlur, GaussianNoise, SobelFilter
from simclr_tf.augment.hashing import standard_normal

SIGMA = np.float32([0.1, 0.3, 0.7, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(("repeat", "radius"), [(1, 1), (3, 3)])
def test_blur_equals_scipy(images, apply, repeat, radius):
    """The kernel's side is a tenth of the image's, at least 3: 3 pixels of 20, 7 of 60."""
    images = images.repeat(repeat, 1).repeat(repeat, 2)
    found = apply(GaussianBlur(), images, sigma=SIGMA)
    for image, sigma, ours in zip(images / 255, SIGMA, found, strict=True):
        # scipy's "mirror" does not repeat the border, like NumPy's "reflect".
        blurred = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0))
        np.testing.assert_allclose(ours, blurred, atol=2e-6)


def test_blur_reflects_more_than_once_where_the_image_is_narrow(apply):
    image = np.random.default_rng(0).integers(0, 256, (1, 80, 3, 1), dtype=np.uint8)
    found = apply(GaussianBlur(), image, sigma=np.float32([2.0]))
    expected = ndimage.gaussian_filter(image / 255, (0, 2, 2, 0), mode="mirror", radius=(0, 4, 4, 0))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("side", "radius"), [(32, 1), (96, 4), (192, 9)])
def test_the_kernel_is_as_wide_as_in_the_papers_code(apply, side, radius):
    """Half of a tenth of the side, rounded down (google-research/simclr, tf2/data_util.py)."""
    image = np.zeros((1, side, side, 1), np.uint8)
    image[0, side // 2, side // 2] = 255
    assert np.count_nonzero(apply(GaussianBlur(), image, sigma=np.float32([2.0]))) == (2 * radius + 1) ** 2


def test_sigma_is_uniform():
    sigma = GaussianBlur().draw(tf.constant([1, 1]), 10_000, (32, 32, 3))["sigma"].numpy()
    assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


def test_sobel_equals_scipy(images, apply):
    amount = np.float32([0.0, 0.3, 1.0, 1.0, 0.7, 0.5])
    found = apply(SobelFilter(), images, amount=amount)
    for image, a, ours in zip(images / 255, amount, found, strict=True):
        channels = np.moveaxis(image, -1, 0)  # one by one: scipy would smooth across them
        slopes = [[ndimage.sobel(c, axis, mode="nearest") for axis in (0, 1)] for c in channels]
        edges = np.stack([np.minimum(1, np.hypot(dy, dx) / 4) for dy, dx in slopes], -1)
        np.testing.assert_allclose(ours, (1 - a) * image + a * edges, atol=1e-6)


def test_noise_has_its_deviation_and_is_clipped(apply):
    flat = np.full((3, 64, 64, 3), 128, np.uint8)
    keys = np.int32([[1, 2], [3, 4], [5, 6]])
    found = apply(GaussianNoise(), flat, deviation=np.float32([0.0, 0.05, 1.0]), keys=keys)
    np.testing.assert_allclose(found[0], 128 / 255, atol=1e-7)
    assert found[1].std() == pytest.approx(0.05, rel=0.05)
    assert found[2].min() == 0.0 and found[2].max() == 1.0


def test_hashed_numbers_are_normal_and_independent():
    keys = tf.constant([[0, 0], [0, 1], [1, 0], [2, 1], [2**23 - 1, 2**23 - 1], [1, 2]])
    x = np.stack([standard_normal(keys, 20_000, stream).numpy() for stream in range(3)], 1).astype(np.float64)
    for row in x.reshape(-1, 20_000):
        assert stats.kstest(row, stats.norm.cdf).pvalue > 1e-4
        assert abs(row.std() - 1) < 0.03
    rows = x.reshape(-1, 20_000)  # images and channels
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 5 / np.sqrt(20_000)
    for lag in (1, 2, 16, 32, 1024):  # neighbors along both axes
        assert np.abs(np.mean(rows[:, lag:] * rows[:, :-lag], axis=1)).max() < 5 / np.sqrt(20_000)
    assert abs(np.mean(rows**4) - 3) < 0.1


def test_hashed_numbers_do_not_repeat():
    keys = tf.constant([[7, 8], [8, 7]])
    bits = standard_normal(keys, 5000, 0).numpy()
    assert len(np.unique(bits)) > 0.995 * bits.size  # 23 bits: a few coincide
    np.testing.assert_array_equal(standard_normal(keys[1:], 5000, 0).numpy()[0], bits[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianBlur((0.0, 1.0)),
        lambda: GaussianBlur((2.0, 1.0)),
        lambda: GaussianNoise((0.2, 0.1)),
        lambda: GaussianNoise((-0.1, 0.1)),
        lambda: SobelFilter((0.0, 2.0)),
    ],
)
def test_wrong_parameters_are_refused(make):
    with pytest.raises(ValueError, match="Received: "):
        make()
