"""Boxes for a reader: the same as the layer's on the device, and of the law that it has."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from simclr_tf.augment import RandomResizedCrop, TwoViews, make_views
from simclr_tf.augment.base import GENERATOR

COUNT = 10_000


def boxes(views, step=3, count=COUNT, size=(375, 500), number=2):
    """Int (count, V, 4)."""
    cuts = views.cuts(number)
    return cuts.boxes(cuts.draws(step, count), tf.constant([size] * count)).numpy()


@pytest.mark.parametrize("law", ["paper", "google"])
@pytest.mark.parametrize("size", [(32, 32), (375, 500), (500, 375)])
def test_boxes_are_those_that_the_layer_draws_with_the_same_key(law, size):
    views = make_views("simclr", crop_law=law, seed=5)
    found = boxes(views, step=7, count=64, size=size)
    key = tf.random.fold_in([5, 0], tf.constant(7, tf.int64), alg=GENERATOR)
    for view in range(2):
        place = tf.random.fold_in(key, tf.constant(view * len(views.layers)), alg=GENERATOR)
        drawn = views.layers[0].draw(place, 64, (*size, 3))
        expected = np.stack([drawn[name] for name in ("top", "left", "height", "width")], axis=1)
        np.testing.assert_array_equal(found[:, view], expected)


def test_views_of_cut_images_are_those_of_whole_images():
    """Boxes without resizing: what the reader cuts is what the layer cuts."""
    images = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3), np.uint8)
    layers = [RandomResizedCrop((1.0, 1.0), (1.0, 1.0)), *make_views("jitter,flip,gray").layers]
    views = TwoViews(layers, seed=2, compiled=False)
    both = np.stack([images, images], axis=1)  # the whole image is the only box of that law
    np.testing.assert_allclose(views(tf.constant(both), 4), views(tf.constant(images), 4), atol=1e-6)


def test_the_law_of_ten_thousand_boxes():
    area, aspect = (0.08, 0.5), (3 / 4, 4 / 3)  # areas at which all these aspect ratios fit into 375 x 500
    views = TwoViews([RandomResizedCrop(area, aspect)], seed=11)
    top, left, height, width = np.moveaxis(boxes(views)[:, 0].astype(float), 1, 0)
    assert (top >= 0).all() and (top + height <= 375).all() and (left >= 0).all() and (left + width <= 500).all()
    # Sides are whole pixels, whose rounding a test of 10,000 draws does not see at these sizes.
    share = (height * width) / (375 * 500)
    assert stats.kstest(share, stats.uniform(area[0], area[1] - area[0]).cdf).pvalue > 1e-3
    logarithm = np.log(width / height)
    assert stats.kstest(logarithm, stats.uniform(np.log(aspect[0]), np.log(16 / 9)).cdf).pvalue > 1e-3
    for start, side, room in ((top, height, 375), (left, width, 500)):
        assert stats.kstest((start + 0.5) / (room - side + 1), "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(share, logarithm).statistic) < 0.05


def test_views_and_steps_have_boxes_of_their_own():
    views = make_views(seed=1)
    first, again, later = (boxes(views, step, 32) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[:, 0] != first[:, 1]).any(axis=1).all() and (first != later).any(axis=(1, 2)).all()


def test_a_shared_crop_is_one_box():
    views = make_views(asymmetric=True, compiled=False)
    assert views.cuts().views == 1
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 16, 16, 3), np.uint8)
    first, second = np.split(views(tf.constant(images), 0), 2)
    np.testing.assert_allclose(second, images[:, 0] / 255, atol=1e-6)  # the second view is the crop alone
    assert (first != second).any()


@pytest.mark.parametrize("names", ["flip,crop", "jitter", "shift,flip", "crop_bicubic,flip"])
def test_views_that_do_not_begin_with_a_bilinear_crop_have_no_boxes(names):
    assert make_views(names).cuts() is None


def test_cut_images_are_resized_where_views_are_smaller():
    views = make_views("crop", seed=1, compiled=False)
    images = np.full((2, 2, 24, 24, 3), 80, np.uint8)
    views.resize(12)
    out = views(tf.constant(images), 0)
    assert out.shape == (4, 12, 12, 3)
    np.testing.assert_allclose(out, 80 / 255, atol=1e-5)
