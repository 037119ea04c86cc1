"""The converter to TFRecord shards: what it keeps, goes on with, and refuses."""

import hashlib
import json
import runpy

import numpy as np
import pytest
from PIL import Image

from simclr_tf.data import load
from simclr_tf.data.convert import convert, main
from simclr_tf.data.records import Keys, find
from simclr_tf.files import write_json

pytestmark = pytest.mark.usefixtures("cache")


def test_a_conversion_continues_and_has_checksums(folder, shards, monkeypatch):
    about = json.loads((shards / "shards.json").read_text())
    for name, shard in about["shards"].items():
        assert hashlib.sha256((shards / name).read_bytes()).hexdigest() == shard["sha256"]
    assert sum(shard["images"] for shard in about["shards"].values()) == 30
    lost, kept = sorted(shards.glob("train-*"))[:2]
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    half = shards / f".{lost.name}.host.1.tmp"  # left by a process that was killed
    half.touch()
    monkeypatch.chdir(folder.parent)
    convert(folder.name, shards, shard_mib=1)
    assert not half.exists()
    assert lost.read_bytes() == before and kept.stat().st_mtime_ns == time
    with pytest.raises(ValueError, match="holds shards of other images or settings"):
        convert(folder, shards, shard_mib=2)


def test_large_images_are_shrunk(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_tf.data.convert.MEBIBYTE", 2**13)
    convert(folder, tmp_path / "small", shard_mib=1, max_side=16)
    assert len(list((tmp_path / "small").glob("train-*"))) == 1  # and not as many as the large ones take
    index = find([str(path) for path in (tmp_path / "small").glob("*.tfrecord")], Keys())
    assert index.shapes.max() == 16 and set(index.orientations) == {1}


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_a_list_of_another_program_is_refused(folder, tmp_path, content):
    (tmp_path / "shards.json").write_text(content)
    with pytest.raises(ValueError, match=f"by this converter. Received: {tmp_path}"):
        convert(folder, tmp_path)


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path):
    (tmp_path / "images").mkdir()
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "images" / "ramp.png")
    convert(tmp_path / "images", tmp_path / "small", max_side=32)
    found = load(f"records:{tmp_path}/small/*", None, 32).train.array()[0, ..., 0].astype(int)
    np.testing.assert_allclose(found.mean(axis=0), ramp[0].reshape(32, 2).mean(axis=1) / 257, atol=6)


def test_a_damaged_image_that_must_be_shrunk_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(
            tmp_path / "images" / name
        )
    content = bytearray((tmp_path / "images" / "b.png").read_bytes())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second - 4 : second + 4] = bytes(8)  # its end is whole, and Pillow's error is no OSError
    (tmp_path / "images" / "b.png").write_bytes(content)
    with pytest.raises(ValueError, match="Expected image files. Received: .*b.png"):
        convert(tmp_path / "images", tmp_path / "small", max_side=16)
    (tmp_path / "images" / "b.png").unlink()  # nothing was written, so nothing is in the way
    convert(tmp_path / "images", tmp_path / "small", max_side=16)


def test_a_conversion_that_ends_after_its_first_shard_continues(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_tf.data.convert.MEBIBYTE", 2**13)

    def disk_full(path, value):
        if value["shards"]:
            raise OSError(28, "No space left on device")
        write_json(path, value)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("simclr_tf.data.convert.write_json", disk_full)
        convert(folder, tmp_path / "records", shard_mib=1)
    (tmp_path / "records" / ".shards.json.host.1.tmp").touch()
    convert(folder, tmp_path / "records", shard_mib=1)
    shards = json.loads((tmp_path / "records" / "shards.json").read_text())["shards"]
    assert sum(shard["images"] for shard in shards.values()) == 30


def test_other_files_are_not_written_among(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="which has other files"):
        convert(folder, tmp_path / "full")


@pytest.mark.parametrize("words", [[], ["a"], ["a", "b", "--max_side=x"], ["a", "b", "c"], ["nowhere", "b"]])
def test_wrong_words_are_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Received: "):
        main(words)
    assert not list(tmp_path.glob("b*"))


def test_the_command_says_what_is_wrong_in_a_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["convert", "nowhere", "b"])
    with (
        pytest.raises(SystemExit, match=r"^convert: error: [^\n]*$"),
        pytest.warns(RuntimeWarning, match="sys.modules"),
    ):
        runpy.run_module("simclr_tf.data.convert", run_name="__main__")
