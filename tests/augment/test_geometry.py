import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from simclr_tf.augment import RandomCutout, RandomFlip, RandomRotate, RandomRotate90


def draw(layer, shape, count=10_000):
    return {k: v.numpy() for k, v in layer.draw(tf.constant([5, 6]), count, shape).items()}


def test_flip_mirrors_half_of_the_images(images, apply):
    chosen = np.array([True, False, True, True, False, False])
    found = apply(RandomFlip(), images, chosen=chosen)
    expected = np.where(chosen[:, None, None, None], images[:, :, ::-1], images) / 255
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert stats.binomtest(int(draw(RandomFlip(), (8, 8, 3))["chosen"].sum()), 10_000, 0.5).pvalue > 1e-3


def test_quarter_turns_equal_numpy(images, apply):
    square = images[:, :16]
    quarters = np.int32([1, 2, 3, 1, 2, 3])
    found = apply(RandomRotate90(1.0), square, quarters=quarters)
    expected = [np.rot90(x, k) / 255 for x, k in zip(square, quarters, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_quarter_turns_are_equally_frequent_and_keep_the_shape(images, apply):
    drawn = draw(RandomRotate90(), (8, 8, 3))
    counts = np.bincount(np.where(drawn["chosen"], drawn["quarters"], 0))
    assert stats.chisquare(counts).pvalue > 1e-3
    assert set(draw(RandomRotate90(), (8, 9, 3), 100)["quarters"]) == {2}
    half = apply(RandomRotate90(1.0), images, quarters=np.full(6, 2, np.int32))
    np.testing.assert_allclose(half, images[:, ::-1, ::-1] / 255, atol=1e-7)


def test_rotation_equals_scipy(images, apply):
    angles = np.float32([0.0, 10.0, -45.0, 90.0, 133.0, 180.0])
    found = apply(RandomRotate(180), images, angle=np.radians(angles))
    for image, angle, ours in zip(images, angles, found, strict=True):
        turned = ndimage.rotate(image / 255, angle, reshape=False, order=1, mode="grid-constant", cval=0.0)
        np.testing.assert_allclose(ours, turned, atol=2e-5)


def test_angles_are_uniform():
    angle = np.degrees(draw(RandomRotate(30), (8, 8, 3))["angle"])
    assert stats.kstest(angle, stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_cutout_covers_a_square(images, apply):
    side, top, left = np.float32([[0, 3, 3], [5, 2, 3], [8, -4, 12], [16, 19, -8], [7, 0, 0], [1, 19, 15]]).T
    found = apply(RandomCutout(fill=0.25), images, side=side, top=top, left=left)
    for i, (s, t, w) in enumerate(zip(side, top, left, strict=True)):
        expected = images[i] / 255
        expected[int(max(t, 0)) : int(max(t + s, 0)), int(max(w, 0)) : int(max(w + s, 0))] = 0.25
        np.testing.assert_allclose(found[i], expected, atol=1e-7)


def test_cutout_centers_are_uniform():
    drawn = draw(RandomCutout((0.2, 0.6)), (30, 20, 3))
    assert drawn["side"].min() == 4 and drawn["side"].max() == 12
    for edge, size in (("top", 30), ("left", 20)):
        center = drawn[edge] + np.floor(drawn["side"] / 2)
        assert stats.chisquare(np.bincount(center.astype(int), minlength=size)).pvalue > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomRotate(-1),
        lambda: RandomRotate(181),
        lambda: RandomCutout((0.5, 0.2)),
        lambda: RandomCutout(fill=2.0),
        lambda: RandomFlip(1.5),
        lambda: RandomFlip(-0.1),
    ],
)
def test_wrong_parameters_are_refused(make):
    with pytest.raises(ValueError, match="Received: "):
        make()
