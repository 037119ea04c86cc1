"""Decoding by TensorFlow's kernels: against Pillow in every format, orientation and size, and resizing against NumPy."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from simclr_tf.data import decode

SIDES = (54, 63)  # odd on purpose: chroma is subsampled in blocks of 16
BOXES = np.array([[5, 3, 20, 24], [1, 2, 30, 21], [0, 0, 54, 54]], np.int32)


@pytest.fixture(scope="module")
def pixels():
    return np.kron(np.random.default_rng(0).integers(0, 256, (6, 9, 3)), np.ones((9, 7, 1))).astype(np.uint8)


def encoded(pixels, kind="PNG", mode="RGB", orientation=1, **options):
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    exif = image.getexif()
    exif[0x112] = orientation
    file = io.BytesIO()
    image.save(file, kind, **{"exif": exif} | options)
    return file.getvalue()


def upright(contents):
    """What Pillow makes of a file, as it is to be seen."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def cut(contents, boxes, size, orientation=1):
    shape, orientation = tf.constant(upright(contents).shape[:2]), tf.constant(orientation)
    stored = decode.as_stored(tf.constant(boxes), orientation, shape)
    return decode.cut(tf.constant(contents), orientation, stored, size).numpy()


def whole(contents, size, orientation=1):
    return decode.whole(tf.constant(contents), tf.constant(orientation), size).numpy()


def resized(image, size):
    """The definition: means over areas where it shrinks, bilinear between centers of pixels where it grows."""
    if image.shape[0] * image.shape[1] > size[0] * size[1]:
        down, across = (areas(*pair) for pair in zip(image.shape[:2], size, strict=True))
    else:
        down, across = (tents(*pair) for pair in zip(image.shape[:2], size, strict=True))
    return np.einsum("ah,hwc,bw->abc", down, image.astype(np.float64), across)


def areas(old, new):
    edges = np.arange(new + 1) * old / new
    covered = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(edges[:-1, None], np.arange(old))
    return np.clip(covered, 0, None) * new / old


def tents(old, new):
    centers = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.clip(1 - np.abs(centers[:, None] - np.arange(old)), 0, None)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_every_format_and_mode_has_pillow_s_pixels(pixels, kind, mode):
    written = {"L", "RGB"} | {
        "PNG": {"RGBA", "P", "I;16"}, "GIF": {"P", "RGBA"}, "WEBP": {"RGBA"}, "BMP": {"RGBA"}, "JPEG": {"CMYK"},
    }[kind]  # fmt: skip
    if mode not in written:
        pytest.skip(f"there are no {kind} files in mode {mode}")
    contents = encoded(pixels, kind, mode, **({"lossless": True} if kind == "WEBP" else {}))
    got = cut(contents, [[0, 0, 54, 54]], 54)[0]
    # At the border of a part, JPEG's chroma is not smoothed with what lies outside.
    difference = np.abs(got.astype(int) - upright(contents)[:54, :54])[:-2, :-2]
    assert difference.max() <= (3 if mode == "CMYK" else 0)  # which Pillow rounds in another way


def test_alpha_of_a_webp_file_is_dropped():
    """Where it is not opaque, which Pillow otherwise writes as a file without alpha."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(cut(file.getvalue(), [[0, 0, 9, 9]], 9)[0], pixels[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_orientation_is_turned_upright(pixels, kind, orientation):
    contents = encoded(pixels, kind, orientation=orientation, **({"subsampling": 0} if kind == "JPEG" else {}))
    expected = upright(contents)
    got = cut(contents, [[5, 3, 20, 20], [1, 2, 20, 20]], 20, orientation)
    np.testing.assert_array_equal(got, [expected[5:25, 3:23], expected[1:21, 2:22]])
    center = whole(contents, 54, orientation)
    top, left = (np.array(expected.shape[:2]) - 54) // 2
    # Rows and columns that are left over evenly are left over anywhere.
    places = [(top + down, left + right) for down in range(2) for right in range(2)]
    assert any(np.array_equal(center, expected[t : t + 54, x : x + 54]) for t, x in places)


@pytest.mark.parametrize("size", [8, 24, 40, 96])
def test_a_cut_is_the_box_resized_by_the_definition(pixels, size):
    for box, got in zip(BOXES, cut(encoded(pixels), BOXES, size), strict=True):
        top, left, height, width = box
        expected = resized(pixels[top : top + height, left : left + width], (size, size))
        assert np.abs(got - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("box", BOXES)
def test_boxes_of_one_image_do_not_disturb_each_other(pixels, box):
    contents = encoded(pixels)
    among, alone = cut(contents, BOXES, 16), cut(contents, box[None], 16)
    assert (among == alone).all(axis=(1, 2, 3)).any()


def test_the_center_of_a_larger_image_is_cut_out_of_its_seven_eighths():
    image = np.random.default_rng(1).integers(0, 256, (80, 120, 3), np.uint8)
    expected = resized(image, (32, 48))[2:30, 10:38]  # 28 / 0.875 = 32
    assert np.abs(whole(encoded(image), 28) - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("size", [54, 60, 100])
def test_an_image_that_is_no_larger_fills_the_square(pixels, size):
    width = round(63 * size / 54)
    left = (width - size) // 2
    expected = resized(pixels, (size, width))[:, left : left + size]
    assert np.abs(whole(encoded(pixels), size) - expected).max() <= 0.5 + 1e-3


def test_boxes_of_several_images_are_turned_at_once():
    orientations, shapes = tf.range(1, 9), tf.constant([[30, 40]] * 8)
    boxes = tf.constant([[[5, 3, 20, 24], [1, 2, 11, 21]]] * 8)
    together = decode.as_stored(boxes, orientations, shapes)
    alone = [decode.as_stored(boxes[0], orientation, shapes[0]) for orientation in orientations]
    np.testing.assert_array_equal(together, alone)


def test_an_image_of_the_size_stays_as_it_is(pixels):
    np.testing.assert_array_equal(whole(encoded(pixels[:, :54]), 54), pixels[:, :54])


def test_nothing_in_the_graph_is_python(pixels):
    """So that it runs where there is no Python: in the workers of the tf.data service and on remote hosts."""

    def decoded(contents):
        return decode.cut(contents, tf.constant(1), tf.constant(BOXES), 8), decode.whole(contents, tf.constant(1), 8)

    graph = tf.function(decoded).get_concrete_function(tf.TensorSpec([], tf.string)).graph.as_graph_def()
    kinds = {node.op for node in graph.node} | {node.op for body in graph.library.function for node in body.node_def}
    assert "DecodeAndCropJpeg" in kinds and not {kind for kind in kinds if "Py" in kind}


def test_of_a_very_long_image_the_middle_is_seen():
    """And not gigabytes of what lies beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20_000, 3), np.uint8)
    middle = pixels[:, 9992:10_008]
    whole, part = (decode.whole(tf.constant(encoded(each)), tf.constant(1), 224).numpy() for each in (pixels, middle))
    np.testing.assert_array_equal(whole, part)
