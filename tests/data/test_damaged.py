"""Images that turn out to be damaged in the middle of a run: which takes their place, who hears of it, and when it ends."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from simclr_tf.augment import make_views
from simclr_tf.config import Config
from simclr_tf.data.damaged import Damaged, tolerating
from simclr_tf.data.folder import FileImages
from simclr_tf.data.manifest import inspect, look
from simclr_tf.data.pipeline import batch_indices, naming_lost_images, ordered_batches, training_batches
from simclr_tf.data.source import Split

COUNT, SIDE = 24, 16


def encoded(shade, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)).save(file, kind)
    return file.getvalue()


def broken():
    """Bytes whose header and end are those of a PNG, while what lies between is not."""
    content = bytearray(encoded(0))
    content[-30:-20] = b"\x00" * 10
    return bytes(content)


@pytest.fixture
def split(tmp_path):
    """Image i is filled with i and labeled i; 3, 4 and 20 cannot be decoded, which nothing but decoding tells."""
    paths = []
    for number in range(COUNT):
        paths.append(tmp_path / f"{number:02}.png")
        paths[-1].write_bytes(broken() if number in (3, 4, 20) else encoded(number))
    files = inspect([str(path) for path in paths])
    assert not files.faults
    return Split(FileImages(files, SIDE), np.arange(COUNT, dtype=np.int32))


def epoch(split, damaged, cuts=None, **settings):
    batches = training_batches(split, 8, seed=1, labels=True, damaged=damaged, cuts=cuts, **settings)
    with naming_lost_images():
        return [
            (images.numpy(), labels.numpy())
            for images, labels in batches.take(COUNT // 8 - settings.get("first_step", 0))
        ]


@pytest.mark.parametrize("with_cuts", [False, True])
def test_the_next_readable_image_takes_the_place_with_its_label(split, with_cuts, capfd):
    cuts = make_views("crop").cuts() if with_cuts else None
    found = epoch(split, Damaged(split.images, 3), cuts)
    instead = {3: 5, 4: 5, 20: 21}
    for step, (images, labels) in enumerate(found):
        wanted = batch_indices(COUNT, 8, 1, 0, step)
        np.testing.assert_array_equal(labels, [instead.get(index, index) for index in wanted])
        assert (images.reshape(8, -1) == labels[:, None]).all()  # crops of one color have that color
    said = capfd.readouterr().out
    for index, other in instead.items():
        assert f"cannot decode {split.images.paths[index]}; {split.images.paths[other]} takes its place" in said


def test_an_image_is_named_once(split, capfd):
    damaged = Damaged(split.images, 3)
    for _ in range(2):
        epoch(split, damaged)
    assert capfd.readouterr().out.count("cannot decode") == 3


def test_a_resumed_epoch_has_the_same_images(split):
    whole = epoch(split, Damaged(split.images, 3))
    rest = epoch(split, Damaged(split.images, 3), first_step=1)
    for (images, labels), (expected, numbers) in zip(rest, whole[1:], strict=True):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, numbers)


def test_beyond_the_limit_the_run_ends_with_the_list(split):
    with pytest.raises(
        ValueError, match=r"^Images cannot be decoded.* 3 of them where `max_bad_files` allows 2"
    ) as caught:
        epoch(split, Damaged(split.images, 2))
    assert all(split.images.paths[index] in str(caught.value) for index in (3, 4, 20)) and "\n" not in str(caught.value)


def test_judging_tolerates_none(split):
    with pytest.raises(ValueError, match="^Images cannot be decoded: remove"), naming_lost_images():
        list(ordered_batches(split, 8))
    with pytest.raises(ValueError, match="03.png, .*04.png, .*20.png"):
        split.array()


def test_the_images_of_a_validation_loss_have_a_limit_too(split):
    with naming_lost_images():
        batches = list(ordered_batches(split, 8, labels=True, damaged=tolerating(split, lambda images: 3)))
    labels = np.concatenate([labels for _, labels in batches])
    assert labels.tolist() == [{3: 5, 4: 5, 20: 21}.get(index, index) for index in range(COUNT)]
    with pytest.raises(ValueError, match="allows 1: remove"), naming_lost_images():
        list(ordered_batches(split, 8, damaged=tolerating(split, lambda images: 1)))


def test_a_folder_that_is_gone_is_an_error(split):
    for path in split.images.paths:
        os.remove(path)
    with pytest.raises(ValueError, match="^Images cannot be decoded"):
        epoch(split, Damaged(split.images, 1000))


@pytest.mark.parametrize(("setting", "limit"), [("0.1%", 3), ("20", 20), ("0", 0), ("0%", 0), ("100%", 2001)])
def test_the_limit_is_a_number_or_a_part_rounded_up(setting, limit):
    assert Config.of(max_bad_files=setting).output.bad_files(2001) == limit


@pytest.mark.parametrize("setting", ["many", "-1", "0.1", "101%", ""])
def test_other_limits_are_refused(setting):
    with pytest.raises(ValueError, match="`max_bad_files` must be like 20 or 0.1%. Received: "):
        Config.of(max_bad_files=setting)


# What a folder of 2,000 files may hold: each is found by its header or end, or else when it is decoded.
def _kinds():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    kinds = {
        "empty": b"",
        "text": b"not an image",
        "zeros": bytes(500),
        "html": b"<html></html>",
        "zip": b"PK\x03\x04" * 50,
    }
    for name in ("BMP", "GIF", "JPEG", "PNG", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, name)
        content = file.getvalue()
        middle = len(content) // 2
        kinds |= {
            f"{name}: half": content[:middle],
            f"{name}: header alone": content[:20],
            f"{name}: one byte short": content[:-1],
            f"{name}: another's name": content[:2] + b"\x00\x00" + content[4:],
            f"{name}: middle zeroed": content[: middle - 200] + bytes(400) + content[middle + 200 :],
        }
    return kinds


KINDS = _kinds()


def test_there_are_thirty_kinds():
    assert len(KINDS) == 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_is_named_at_the_start_or_replaced_or_harmless(tmp_path, kind, capfd):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        path.write_bytes(encoded(7))
    paths[1].write_bytes(KINDS[kind])
    if isinstance(look(str(paths[1])), str):
        assert set(inspect([str(path) for path in paths]).faults) == {str(paths[1])}
        return
    split = Split(FileImages(inspect([str(path) for path in paths]), SIDE), np.arange(4, dtype=np.int32))
    batches = training_batches(split, 4, seed=0, labels=True, damaged=Damaged(split.images, 1))
    _, labels = next(iter(batches))
    # A decoder may make something of a file whose middle is gone: then it is an image like any other.
    named = f"cannot decode {paths[1]}; {paths[2]} takes its place" in capfd.readouterr().out
    assert sorted(labels.numpy()) == ([0, 2, 2, 3] if named else [0, 1, 2, 3])
