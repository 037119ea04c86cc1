"""Kinds of bad image, data file and run folder, each with the words that a user gets."""

import io
import json
import os
import pickle
import re
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from simclr_tf import preflight
from simclr_tf.config import Config
from simclr_tf.data.cifar import load_cifar
from simclr_tf.data.folder import load_folder
from simclr_tf.training import checkpoints, metrics, run_folder


def encoded(form, size=(40, 30), **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, form, **options)
    return file.getvalue()


def png_of_size(width, height):
    """A PNG of 60 bytes whose header claims any size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def cut(content, part=0.5):
    return content[: int(part * len(content))]


IMAGES = {
    "empty": (b"", "UnidentifiedImageError"),
    "text": (b"not an image\n", "UnidentifiedImageError"),
    "a web page": (b"<!DOCTYPE html><title>404</title>", "UnidentifiedImageError"),
    "a drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "UnidentifiedImageError"),
    "zeros": (bytes(1000), "UnidentifiedImageError"),
    "a format that is not read": (encoded("TIFF"), "UnidentifiedImageError"),
    "a cut JPEG": (cut(encoded("JPEG")), "truncated"),
    "a JPEG of a header": (encoded("JPEG")[:20], "UnidentifiedImageError"),
    "a cut PNG": (cut(encoded("PNG")), "truncated"),
    "a PNG with changed bytes": (encoded("PNG").replace(b"IDAT", b"IDAX", 1), "UnidentifiedImageError"),
    "a cut GIF": (cut(encoded("GIF")), "(truncated|not processed)"),
    "a cut WebP": (cut(encoded("WEBP")), "(UnidentifiedImageError|decode|truncated)"),
    "a cut BMP": (cut(encoded("BMP")), "truncated"),
    "a huge PNG in 60 bytes": (png_of_size(16_000, 10_000), "at most 134217728 are decoded"),
    "a monstrous PNG in 60 bytes": (png_of_size(60_000, 60_000), "DecompressionBomb"),
    "a PNG without pixels": (png_of_size(0, 10), "(UnidentifiedImageError|ValueError|SyntaxError)"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_bad_image_is_named_and_left_out(tmp_path, kind):
    content, words = IMAGES[kind]
    (tmp_path / "bad.png").write_bytes(content)
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    dataset = load_folder(tmp_path, 8)
    assert len(dataset.train) == 1
    (note,) = dataset.notes
    assert note.startswith(f"folder: left out an unreadable file in {tmp_path}: bad.png (") and "\n" not in note
    assert re.search(words, note), note


def no_file(folder):
    (folder / "x.png").mkdir(parents=True)
    (folder / "note.txt").touch()


def linked(folder):
    (folder / "x.png").symlink_to("/nowhere.png")


FOLDERS = {
    "no folder": (lambda folder: folder.rmdir(), "must be a folder"),
    "an empty folder": (lambda folder: None, "with no image"),
    "a folder named like an image": (no_file, "with no image"),
    "a link to nothing": (linked, "left out 1 dangling link"),
    "nothing but bad files": (lambda folder: (folder / "a.png").touch(), "1 unreadable files, such as a.png"),
    "a file": (lambda folder: (folder.rmdir(), folder.touch()), "must be a folder"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_without_images(tmp_path, kind):
    make, words = FOLDERS[kind]
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    with pytest.raises(ValueError, match=words):
        load_folder(tmp_path / "data", 8)


class Harm:
    """Pickles as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch harm",)


def archive(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


RECORD = bytes([3]) + bytes(3072)
TEST = {"test_batch.bin": RECORD}
TAR = "cifar-10-binary.tar.gz"
CIFAR = {
    "half a record": ({"data_batch_1.bin": RECORD[:-7], **TEST}, "must be a multiple of 3073 bytes"),
    "a label that is none": ({"data_batch_1.bin": bytes([10]) + bytes(3072), **TEST}, "Labels must be from 0 to 9"),
    "an empty batch": ({"data_batch_1.bin": b"", **TEST}, "no images"),
    "no test images": ({"data_batch_1.bin": RECORD}, "needs its file test_batch.bin"),
    "other files": ({"x.bin": RECORD}, "must hold cifar10.*with x.bin"),
    "names of too few classes": (
        {"data_batch_1.bin": RECORD, **TEST, "batches.meta.txt": b"cat\ndog\n"}, "names of 10 classes",
    ),
    "a cut archive": ({TAR: cut(archive(("d/data_batch_1.bin", os.urandom(9000))))}, "whole .tar.gz archive"),
    "an archive that is none": ({TAR: b"hello"}, "whole .tar.gz archive"),
    "an archive of other files": ({TAR: archive(("../../etc/passwd", b"x"))}, "needs its file data_batch_1"),
    "a pickle that calls": ({"data_batch_1": pickle.dumps(Harm()), "test_batch": b""}, "it refers to (posix|nt).system"),
    "a pickle of something else": ({"data_batch_1": pickle.dumps([1]), "test_batch": b""}, "CIFAR's Python version"),
    "a pickle of another shape": (
        {"data_batch_1": pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [1, 2]}), "test_batch": b""},
        "data of shape",
    ),
    "a pickle with odd labels": (
        {"data_batch_1": pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}), "test_batch": b""},
        "Labels must be integers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CIFAR)
def test_bad_cifar_files(tmp_path, kind, monkeypatch):
    files, words = CIFAR[kind]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_cifar("cifar10", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)  # nothing was run or extracted


def config(text):
    def make(folder):
        (folder / "config.json").write_text(text)
        Config.load(folder / "config.json")

    return make


def checkpoint(content):
    def make(folder):
        (folder / "epoch-00001.npz").write_bytes(content)
        checkpoints.newest(folder)

    return make


def npz(write=np.savez, **arrays):
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def table(content):
    def make(folder):
        (folder / "metrics.csv").write_bytes(content)
        metrics.read_rows(folder / "metrics.csv")

    return make


def opened(overwrite, resume, *files):
    def make(folder):
        for name in files:
            (folder / name).touch()
        run_folder.check(folder, overwrite, resume)

    return make


def within(overwrite, resume):
    """A folder of runs, in place of one of them."""

    def make(folder):
        (folder / "demo").mkdir()
        (folder / "demo" / "config.json").write_text(json.dumps(Config().to_dict()))
        run_folder.check(folder, overwrite, resume)

    return make


def evaluated(folder):
    (folder / "config.json").write_text(json.dumps(Config().to_dict()))
    preflight.check_evaluation(folder, "knn", {})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"projection": "none", "projection_dim": 64}, "`projection_dim` needs a projection head"),
        ({"optimizer": "adamw", "momentum": 0.8}, "`momentum` goes with lars and sgd"),
        ({"tpu": "mine"}, "`tpu` goes with `strategy=tpu`"),
        ({"communication": "ring", "strategy": "mirrored"}, "`communication` goes with `strategy=multiworker`"),
        ({"logical_cpus": 2, "strategy": "single"}, "`logical_cpus` goes with `strategy=mirrored`"),
        ({"margin": 0.8}, "`margin` goes with `loss=margin_triplet` and `semi_hard`"),
        ({"init_from": "/gone"}, "`init_from` names weights that are not there"),
        ({"overwrite": True}, "`overwrite` needs `run_dir`"),
        ({"judge_dataset": "folder", "image_size": None}, "`judge_dataset=folder` needs `judge_data_dir`"),
    ],
)
def test_settings_without_effect_are_refused_before_a_run(settings, complaint, tmp_path):
    config = Config.of(dataset="patterns", **settings)
    with pytest.raises(ValueError, match=f"{complaint}.*Received: "):
        preflight.check(config)
    # A run of an earlier version may have them.
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert Config.load(tmp_path / "config.json") == config


def test_a_run_that_is_continued_needs_no_more_the_weights_that_it_began_with(tmp_path):
    config = Config.of(dataset="patterns", init_from="/gone", run_dir=str(tmp_path), resume=True)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    preflight.check(config)


RUNS = {
    "no config.json": (lambda folder: Config.load(folder / "config.json"), "Expected the config.json of a run"),
    "a config.json of text": (config("hello"), "Expected the config.json of a run.*Expecting value"),
    "a config.json of a list": (config("[]"), "Expected the config.json of a run"),
    "an unknown setting": (config('{"data": {"datasat": "x"}}'), r"unknown to this version. Received: \['datasat'\]"),
    "an illegal value": (config('{"training": {"batch_size": 0}}'), "`batch_size` must be at least 2. Received: 0"),
    "a value of another type": (config('{"training": {"batch_size": "8"}}'), "`batch_size` must be an int"),
    "a number that is too large": (config('{"objective": {"temperature": 1%s}}' % ("0" * 400)), "must be a finite number"),
    "a number that is none": (config('{"objective": {"temperature": NaN}}'), "must be a finite number"),
    "an encoder that is none": (config('{"network": {"encoder": "os.system"}}'), "`encoder` must be one of"),
    "no checkpoint": (evaluated, "no checkpoint yet"),
    "a checkpoint of text": (checkpoint(b"hello"), "Every checkpoint of the run is damaged.*epoch-00001.npz"),
    "a checkpoint with objects": (
        checkpoint(npz(x=np.array([Harm()], object), manifest=np.zeros(1))), "Object arrays cannot be loaded",
    ),
    "a compressed checkpoint": (checkpoint(npz(np.savez_compressed, x=np.zeros(10**6))), "compressed entries"),
    "a checkpoint without digests": (checkpoint(npz(x=np.zeros(3))), "no manifest"),
    "a table of other columns": (table(b"a,b\n1,2\n"), "Expected a table with the columns epoch, step"),
    "a table that is none": (table(bytes(range(256))), "Expected a table with the columns epoch, step"),
    "a table with a short row": (
        table(b"epoch,step,loss,learning_rate,images_per_second\n1,2\n"), "Expected a table with the columns",
    ),
    "a folder of something else": (opened(False, False, "thesis.tex"), "is not empty; continue it with `resume`"),
    "something else to overwrite": (opened(True, False, "thesis.tex"), "deletes only the folder of a run"),
    "runs to overwrite": (within(True, False), "there is another run in it, demo"),
    "runs to continue": (within(False, True), "there is another run in it, demo"),
}  # fmt: skip


def test_a_run_with_another_one_in_its_folder_can_be_continued_but_not_replaced(tmp_path):
    for folder in (tmp_path, tmp_path / "tuned"):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(Config().to_dict()))
    run_folder.check(tmp_path, overwrite=False, resume=True)
    with pytest.raises(ValueError, match="there is another run in it, tuned. Received: "):
        run_folder.check(tmp_path, overwrite=True, resume=False)


@pytest.mark.parametrize("kind", RUNS)
def test_bad_run_folders(tmp_path, kind, monkeypatch):
    make, words = RUNS[kind]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        make(tmp_path)
    assert "Received: " in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
