"""TFRecord shards: the same images, orders and runs as a folder; what is damaged; names that do not fit."""

import gzip
import json
import zlib

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import make_views
from simclr_tf.data import check, load
from simclr_tf.data import records as module
from simclr_tf.data.pipeline import naming_lost_images, training_batches
from simclr_tf.data.records import Keys, find
from simclr_tf.data.source import Split
from simclr_tf.data.tfrecord import crc32c, write
from tests.conftest import ROOT

SIZE = 12

pytestmark = pytest.mark.usefixtures("cache")


def read(shards, pattern="*"):
    return load(f"records:{shards}/{pattern}", None, SIZE)


def test_records_are_the_folder_s_images_in_its_order(folder, shards):
    assert len(list(shards.glob("train-*"))) > 1
    expected, found = load("folder", folder, SIZE), read(shards)
    assert found.class_names == expected.class_names == ("ant", "ant-lion", "bee")
    for name in ("train", "test"):
        here, there = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(here.labels, there.labels)
        np.testing.assert_array_equal(here.array(), there.array())


def test_an_epoch_of_records_is_that_of_the_folder(folder, shards):
    cuts = make_views("simclr", seed=4).cuts()
    epochs = [
        [batch.numpy() for batch in training_batches(dataset.train, 5, seed=2, cuts=cuts).take(8)]
        for dataset in (load("folder", folder, SIZE), read(shards))
    ]
    np.testing.assert_array_equal(*epochs)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_read_disjoint_shares_of_one_epoch(folder, shards, workers):
    for split in (load("folder", folder, SIZE).train, read(shards).train):
        numbered = Split(split.images, np.arange(len(split), dtype=np.int32))
        whole = [labels.numpy() for _, labels in training_batches(numbered, 6, seed=3, labels=True).take(3)]
        parts = []
        for index in range(workers):
            context = tf.distribute.InputContext(workers, index, workers)
            stream = training_batches(numbered, 6, seed=3, context=context, labels=True)
            parts.append([labels.numpy() for _, labels in stream.take(3)])
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
        assert len(set(np.concatenate(whole))) == 18


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_killed_worker_processes_go_on_in_their_share(folder, shards, tmp_path, run_python, workers):
    for number, (name, data_dir) in enumerate([("folder", folder), (f"records:{shards}/*", "")]):
        shares = tmp_path / f"shares{number}"
        shares.mkdir()
        script = ROOT / "tests" / "data" / "share.py"
        command = ["-m", "flags.launch", f"--workers={workers}", "--", script, name, data_dir]
        for expected in (137, 0):  # the first time, they are killed
            done = run_python(*command, SHARES=str(shares), CUDA_VISIBLE_DEVICES="-1")
            assert done.returncode == expected, done.stderr
        split = load(name, data_dir or None, SIZE).train
        numbered = Split(split.images, np.arange(len(split), dtype=np.int32))
        whole = [labels.numpy() for _, labels in training_batches(numbered, 6, seed=3, labels=True).take(6)]
        parts = [
            [json.loads(line) for line in (shares / f"{index}.json").read_text().splitlines()]
            for index in range(workers)
        ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_a_resumed_epoch_goes_on_where_it_was(shards):
    split = read(shards).train
    whole = [batch.numpy() for batch in training_batches(split, 4, seed=1).take(5)]
    rest = [batch.numpy() for batch in training_batches(split, 4, seed=1, first_step=2).take(3)]
    np.testing.assert_array_equal(rest, whole[2:])


def test_shards_are_read_through_once(shards, monkeypatch):
    first = read(shards).train.images
    monkeypatch.setattr(module, "_read_through", lambda *_: pytest.fail("was read again"))
    again = read(shards).train.images
    assert again.fingerprint() == first.fingerprint() and again.stamp() == first.stamp()


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_compressed_shards_are_unpacked_once(shards, tmp_path, pack):
    expected = read(shards).train.array()
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in shards.glob("*.tfrecord"):
        (packed / path.name).write_bytes(pack(path.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(read(packed).train.array(), expected)


def test_a_compressed_shard_of_several_parts_is_read_whole_and_a_cut_one_refused(shards, tmp_path):
    expected = read(shards, "train-*").train
    contents = [path.read_bytes() for path in sorted(shards.glob("train-*"))]
    packed = tmp_path / "packed.gz"
    packed.write_bytes(b"".join(map(gzip.compress, contents)) + bytes(20))
    images = {image.tobytes() for image in read(tmp_path, "packed.gz").train.array()}
    assert images == {image.tobytes() for image in expected.array()}
    assert len(find([str(packed)], Keys()).shards) == sum(
        len(find([str(p)], Keys()).shards) for p in shards.glob("train-*")
    )
    packed.write_bytes(gzip.compress(b"".join(contents))[:-10])
    with pytest.raises(ValueError, match="a damaged compressed file .cut off"):
        read(tmp_path, "packed.gz")


def test_missing_shards_are_noted(shards):
    first, *others = sorted(shards.glob("train-*"))
    first.unlink()
    count = len(others) + 1
    assert f"records: of the {count} shards train-*-of-{count:05}, only {count - 1} are there" in read(shards).notes


def test_files_of_the_usual_layout_without_ours(tmp_path):
    """Labels begin with 1, there are no file names, and validation stands for test."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
    for name, indices in (("train-00000-of-00001", range(4)), ("validation-00000-of-00001", range(4, 6))):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for index in indices:
                label = 1 + index % 2
                feature = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[tf.io.encode_png(pixels[index]).numpy()])
                    ),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    dataset = read(tmp_path)
    np.testing.assert_array_equal(dataset.train.array(), pixels[:4])
    assert dataset.train.labels.tolist() == [0, 1, 0, 1] and dataset.class_names == ("1", "2")
    np.testing.assert_array_equal(dataset.test.array(), pixels[4:])


def test_without_test_records_a_fifth_is_held_out(shards):
    dataset = read(shards, "train-*")
    assert np.bincount(dataset.test.labels).sum() == 4 and "held out" in dataset.notes[0]


@pytest.mark.parametrize("at", [0, 5, 9])
def test_a_damaged_length_is_named(shards, at):
    path = sorted(shards.glob("train-*"))[0]
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"^Expected TFRecords. Received: {path}, damaged or cut off at byte 0 of"):
        read(shards)


def test_a_record_that_is_damaged_in_mid_run_ends_it(shards):
    split = read(shards).train
    path = sorted(shards.glob("train-*"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with (
        pytest.raises(ValueError, match=r"^A shard of records is damaged.*Received: corrupted record at \d+$"),
        naming_lost_images(),
    ):
        list(training_batches(split, 6, seed=0).take(3))


def test_a_shard_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OSError, match=r"^Cannot write a shard of TFRecords. Received: .*/absent/x \(NotFoundError\)$"):
        write(str(tmp_path / "absent" / "x"), [b"record"])


def test_test_images_without_labels_are_not_judged_on(tmp_path):
    """As in ImageNet, whose test labels are -1."""
    image = tf.io.encode_png(np.zeros((SIZE, SIZE, 3), np.uint8)).numpy()
    for name, labels in (("train", range(4)), ("test", [-1, -1]), ("validation", [2, 3])):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for label in labels:
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    dataset = read(tmp_path, "[tv]*")
    assert dataset.test.labels.tolist() == [2, 3]
    assert dataset.notes == (f"records: 2 test images have no labels, such as those in {tmp_path}/test",)


def test_a_cut_shard_is_named(shards):
    path = sorted(shards.glob("train-*"))[0]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=f"^Expected TFRecords. Received: {path}, damaged or cut off"):
        read(shards)


def test_a_bad_image_in_a_record_is_left_out_and_named(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for content in (b"no image", tf.io.encode_png(np.zeros((SIZE, SIZE, 3), np.uint8)).numpy()):
            feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    dataset = read(tmp_path)
    assert len(dataset.train) == 1 and dataset.train.labels is None
    assert f"left out an unreadable image: {tmp_path}/a at byte 0 (UnidentifiedImageError" in dataset.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "Expected records with 'image/encoded'. Received: none"), (b"nonsense", "Expected TFRecords. Received: ")],
)
def test_what_is_no_record_is_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{message}"):
        read(tmp_path)


def test_a_pattern_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="^Expected a pattern of TFRecord files. Received: .*, which matches none"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "data_dir", "size", "message"),
    [
        ("records:/x/*", None, None, "`dataset=records:/x/\\*` needs `image_size`"),
        ("records:/x/*", "/y", 8, "says where its files are. Received: `data_dir=/y`"),
        ("records", None, 8, "must be one of .*records:GLOB"),
        ("tfds:", None, 8, "must be one of .*tfds:NAME"),
        ("cifar10:x", None, None, "must be one of"),
    ],
)
def test_names_that_do_not_fit_are_refused(name, data_dir, size, message):
    with pytest.raises(ValueError, match=message):
        check(name, data_dir, size)


def test_the_checksum_is_castagnoli_s():
    assert crc32c(b"123456789") == 0xE3069283  # its check value, RFC 3720
