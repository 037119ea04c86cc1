import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from simclr_tf.augment import RandomCrop, RandomResizedCrop, make_views, policy

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def draw(layer, shape, count=10_000):
    return {k: v.numpy() for k, v in layer.draw(tf.constant([3, 4]), count, shape).items()}


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_equals_cutting_out_and_resizing_with_pil(images, apply, method):
    boxes = np.float32([[0, 0, 20, 16], [3, 2, 9, 7], [0, 5, 20, 1], [19, 15, 1, 1], [4, 0, 13, 16], [1, 1, 2, 3]])
    layer = RandomResizedCrop(method=method)
    found = apply(layer, images, **dict(zip(["top", "left", "height", "width"], boxes.T, strict=True)))
    for image, (top, left, height, width), ours in zip(images, boxes, found, strict=True):
        for channel in range(3):
            crop = Image.fromarray(image[..., channel].astype(np.float32)).crop((left, top, left + width, top + height))
            expected = np.asarray(crop.resize((16, 20), RESAMPLING[method])) / 255
            np.testing.assert_allclose(ours[..., channel], np.clip(expected, 0, 1), atol=1e-5)


def test_areas_and_aspects_follow_their_laws():
    drawn = draw(RandomResizedCrop((0.08, 0.7)), (2000, 2000, 3))  # so large that whole pixels do not matter
    area = drawn["height"] * drawn["width"] / 2000**2
    aspect = np.log(drawn["width"] / drawn["height"])
    assert stats.kstest(area, stats.uniform(0.08, 0.62).cdf).pvalue > 1e-3
    # Up to an area of 3/4 every aspect fits.
    assert stats.kstest(aspect, stats.uniform(np.log(3 / 4), np.log(16 / 9)).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(area, aspect)[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn["top"] / (2001 - drawn["height"]), area)[0, 1]) < 0.03
    for start, length in (("top", "height"), ("left", "width")):
        assert stats.kstest(drawn[start] / (2001 - drawn[length]), stats.uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(32, 32, 3), (20, 33, 1), (1, 7, 3)])
def test_crops_lie_within_the_image(shape):
    drawn = draw(RandomResizedCrop(), shape)
    assert (drawn["height"] >= 1).all() and (drawn["width"] >= 1).all()
    assert (drawn["top"] >= 0).all() and (drawn["top"] + drawn["height"] <= shape[0]).all()
    assert (drawn["left"] >= 0).all() and (drawn["left"] + drawn["width"] <= shape[1]).all()


def test_shift_equals_padding_and_cutting(images, apply):
    shifts = np.float32([[0, 0], [2, 0], [0, -2], [-2, 1], [1, 2], [-1, -1]])
    found = apply(RandomCrop(), images, down=shifts[:, 0], right=shifts[:, 1])
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect") / 255
    for i, (down, right) in enumerate(shifts.astype(int)):
        expected = padded[i, 2 - down : 22 - down, 2 - right : 18 - right]
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


def test_shifts_are_uniform():
    drawn = draw(RandomCrop(0.125), (32, 16, 3))
    for axis, most in (("down", 4), ("right", 2)):
        values, counts = np.unique(drawn[axis], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-most, most + 1))
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomResizedCrop(area=(0.5, 0.4)),
        lambda: RandomResizedCrop(area=(0.0, 1.0)),
        lambda: RandomResizedCrop(area=(0.5, 1.1)),
        lambda: RandomResizedCrop(aspect=(2.0, 1.0)),
        lambda: RandomResizedCrop(method="area"),
        lambda: RandomCrop(-0.1),
        lambda: RandomCrop(0.6),
    ],
)
def test_wrong_parameters_are_refused(make):
    with pytest.raises(ValueError, match="Received: "):
        make()


@pytest.mark.parametrize("shape", [(32, 32, 3), (48, 64, 3)])
def test_googles_law_is_that_of_tensorflows_op(shape):
    """As the paper's code calls it: a tenth of the image at least, an aspect ratio relative to the image's."""
    count, ratio = 4000, shape[1] / shape[0]
    aspect = (3 / 4 * ratio, 4 / 3 * ratio)

    @tf.function
    def theirs(index):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, tf.zeros([1, 0, 4]), seed=[index, 7], min_object_covered=0.1, aspect_ratio_range=aspect,
            area_range=(0.08, 1.0), max_attempts=100, use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        return tf.concat([begin[:2], size[:2]], axis=0)

    expected = tf.map_fn(theirs, tf.range(count)).numpy()
    drawn = RandomResizedCrop(aspect=aspect, law="google").parameters(
        tf.random.stateless_uniform([4, count], [1, 2]), shape
    )
    for column, name in enumerate(("top", "left", "height", "width")):
        ours = drawn[name].numpy()
        # Two samples of one law differ by more than this once in a thousand times.
        assert stats.ks_2samp(expected[:, column], ours).statistic < 1.95 * np.sqrt(2 / count), name
        assert expected[:, column].min() <= ours.min() + 1 and ours.max() <= expected[:, column].max() + 1


@pytest.mark.parametrize(("law", "mean"), [("paper", 0.54), ("google", 0.43)])
def test_mean_areas_are_those_of_the_docstring(law, mean):
    drawn = RandomResizedCrop(law=law).parameters(tf.random.stateless_uniform([4, 20000], [3, 4]), (32, 32, 3))
    assert float(tf.reduce_mean(drawn["height"] * drawn["width"])) / 1024 == pytest.approx(mean, abs=0.01)


@pytest.mark.parametrize("shape", [(1000, 3000, 3), (3000, 1000, 3)])
def test_the_whole_of_a_long_image_can_be_a_crop(shape):
    drawn = RandomResizedCrop((1.0, 1.0)).parameters(tf.random.stateless_uniform([4, 50], [3, 4]), shape)
    assert (drawn["height"].numpy() == shape[0]).all() and (drawn["width"].numpy() == shape[1]).all()


@pytest.mark.parametrize("size", [8, 16, 24, 32, 40])
def test_another_size_is_an_antialiased_resize_of_the_crop(size):
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    layer = RandomResizedCrop((1.0, 1.0), (1.0, 1.0), size=size)
    resized = tf.image.resize(images, (size, size), antialias=True)
    np.testing.assert_allclose(layer(images), resized, atol=1e-5)


def test_smallest_areas_come_from_the_settings():
    crop = policy("crop,gray", crop_area=0.2, crop_law="google", gray_probability=0.1)
    assert crop[0].area == (0.2, 1.0) and crop[0].law == "google" and crop[1].probability == 0.1
    shared = make_views("flip", asymmetric=True, crop_area=0.3, compiled=False).shared[0]
    assert shared.area == (0.3, 1.0)
