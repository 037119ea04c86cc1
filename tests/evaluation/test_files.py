"""The modes that take image files: embed, neighbors and pseudo_label, on a tiny run."""

import csv
import functools
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from simclr_tf import encoders
from simclr_tf.data import load, patterns
from simclr_tf.data.folder import decoded, image_paths, load_folder
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.evaluation import evaluate, pseudo_label
from simclr_tf.evaluation.features import extract, extract_files
from simclr_tf.evaluation.pseudo_label import precision_over_coverage


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two folders of nine images of their own color, with a file that is none and one that is cut off."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, channel in (("blue", 2), ("red", 0)):
        (folder / name).mkdir()
        for index in range(9):
            pixels = rng.integers(0, 100, (40, 36, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def broken(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "red" / "text.png").write_text("no image")
    whole = (photos / "red" / "0.png").read_bytes()
    (tmp_path / "photos" / "blue" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "photos"


def test_paths_of_folders_and_files(photos, tmp_path):
    files = image_paths([photos / "red", photos / "blue" / "3.png"])
    assert len(files) == 10 and files[0].endswith("red/0.png") and files[-1].endswith("blue/3.png")
    with pytest.raises(ValueError, match="not there"):
        image_paths([photos / "green"])
    with pytest.raises(ValueError, match="Received: none in"):
        image_paths([tmp_path])


def test_what_is_left_out_of_a_folder_is_said(photos, tmp_path, capsys):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "away.png").symlink_to(photos / "red" / "0.png")
    with pytest.raises(ValueError, match="none in .*links; left out 1 link out of the folder in .*away.png"):
        image_paths([tmp_path / "links"])
    assert len(image_paths([tmp_path / "links", photos / "red"])) == 9
    assert "note: left out 1 link out of the folder" in capsys.readouterr().out


def test_embeddings_are_not_written_over_a_folder_or_a_device(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="`out` must be a file to write. Received: .*, which is a folder"):
        evaluate(tiny_run, "embed", out=str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="Received: .*/pipe, which is a device"):
        evaluate(tiny_run, "embed", out=str(tmp_path / "pipe"))


def test_unreadable_files_are_named_and_the_others_read(broken):
    batches = list(decoded(image_paths([broken]), 32, batch_size=4))
    assert sum(len(names) for names, _, _ in batches) == sum(len(images) for _, images, _ in batches) == 18
    faults = [fault for _, _, found in batches for fault in found]
    assert len(faults) == 2 and "cut.png (" in faults[0] and "text.png (UnidentifiedImageError" in faults[1]


def test_a_batch_of_unreadable_files_is_left_out(tiny_run, broken):
    encoder, paths = encoders.load_encoder(tiny_run), image_paths([broken])
    names = [name for files, _ in extract_files(encoder, paths, 2, batch_size=1) for name in files]
    assert len(names) == 18
    with pytest.raises(ValueError, match="None of the image files can be read. Received: .*text.png"):
        list(extract_files(encoder, [str(broken / "red" / "text.png")], 5))


def test_features_do_not_depend_on_the_batch(tiny_run, photos):
    encoder, paths = encoders.load_encoder(tiny_run), image_paths([photos])
    whole = [np.concatenate([h for _, h in extract_files(encoder, paths, 0, batch_size)]) for batch_size in (4, 64)]
    np.testing.assert_allclose(*whole, rtol=1e-5, atol=1e-6)
    assert whole[0].shape == (18, encoder.output_shape[-1])


def test_embeddings_in_numpy(tiny_run, broken, tmp_path, capsys):
    out = tmp_path / "new" / "h.npz"
    assert evaluate(tiny_run, "embed", images=str(broken), out=str(out), max_bad_files=2) == out
    output = capsys.readouterr()
    assert "18 of 20 images" in output.out and output.err.count("skipped") == 2
    with np.load(out) as archive:
        assert set(archive.files) == {"file", "folder", "h", "layer", "encoder_digest"}
        assert archive["h"].dtype == np.float32 and archive["h"].shape[0] == 18
        assert set(archive["folder"].tolist()) == {"red", "blue"}
        encoder = encoders.load_encoder(tiny_run)
        ((_, expected),) = extract_files(encoder, archive["file"].tolist(), 0)
        np.testing.assert_allclose(archive["h"], expected, rtol=1e-5, atol=1e-6)
    assert [path.name for path in out.parent.iterdir()] == ["h.npz"]


def test_too_many_unreadable_files_leave_nothing(tiny_run, broken, tmp_path):
    out = tmp_path / "new" / "h.npz"
    with pytest.raises(ValueError, match="More than `max_bad_files=1`.*text.png"):
        evaluate(tiny_run, "embed", images=str(broken), out=str(out), max_bad_files=1)
    assert list(out.parent.iterdir()) == []


def test_embeddings_in_parquet(tiny_run, photos, tmp_path):
    out = tmp_path / "h.parquet"
    settings = {"images": str(photos), "out": str(out), "format": "parquet", "layer": 1}
    parquet = pytest.importorskip("pyarrow.parquet")
    evaluate(tiny_run, "embed", **settings)
    table = parquet.read_table(out)
    assert table.column_names == ["file", "folder", "h"] and table.num_rows == 18
    encoder = encoders.load_encoder(tiny_run, 1)
    assert len(table["h"][0]) == encoder.output_shape[-1] and table.schema.metadata[b"layer"] == b"1"
    assert table.schema.metadata[b"encoder_digest"].decode() == encoders.weights_digest(encoder)


def test_embeddings_of_a_data_set_have_its_labels(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "load_patterns", functools.partial(patterns.load_patterns, 1000, 200))
    out = tmp_path / "h.npz"
    evaluate(tiny_run, "embed", out=str(out))
    dataset, encoder = load("patterns", seed=0), encoders.load_encoder(tiny_run)
    with np.load(out) as archive:
        assert set(archive.files) == {"split", "label", "h", "layer", "encoder_digest"} and len(archive["h"]) == 1200
        test = archive["split"] == "test"
        assert archive["split"].tolist() == ["train"] * 1000 + ["test"] * 200
        np.testing.assert_array_equal(archive["label"][test], np.array(dataset.class_names)[dataset.test.labels])
        np.testing.assert_array_equal(archive["h"][test], extract(encoder, dataset.test))


def test_without_pyarrow_one_line_says_what_to_install(tiny_run, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        evaluate(tiny_run, "embed", images=str(photos), out=str(tmp_path / "h.parquet"), format="parquet")
    assert list(tmp_path.iterdir()) == []


def test_neighbors(tiny_run, photos, broken, tmp_path, capsys):
    path = evaluate(tiny_run, "neighbors", images=str(photos / "red" / "0.png"), among=str(photos), nearest=3)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert all(row["query"].endswith("red/0.png") and row["neighbor"] != row["query"] for row in rows)
    assert sorted((float(row["similarity"]) for row in rows), reverse=True) == [
        float(row["similarity"]) for row in rows
    ]
    picture = imread(path.with_suffix(".png"))
    assert picture.shape[1] > 4 * 64
    # Without a folder to search, the queries are searched.
    path = evaluate(tiny_run, "neighbors", images=str(photos), nearest=100)
    with path.open() as file:
        assert len(list(csv.DictReader(file))) == 18 * 17
    # Nor are they read twice.
    capsys.readouterr()
    evaluate(tiny_run, "neighbors", images=str(broken), max_bad_files=2)
    assert capsys.readouterr().err.count("skipped") == 2
    # A file is itself by whatever path, and a layer has a folder of its own.
    (tmp_path / "link").symlink_to(photos)
    settings = {"images": str(photos / "red" / "0.png"), "among": str(tmp_path / "link"), "nearest": 100}
    path = evaluate(tiny_run, "neighbors", layer=1, **settings)
    assert path == tiny_run / "evaluation" / "layer1" / "neighbors.csv"
    with path.open() as file:
        assert len(list(csv.DictReader(file))) == 17


def test_precision_over_coverage():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.8, 0.2], [0.5, 0.5]])
    curve = precision_over_coverage(probabilities, np.array([0, 1, 1, 1, 0]))
    np.testing.assert_allclose(curve, [[0.9, 0.2, 1], [0.8, 0.6, 2 / 3], [0.6, 0.8, 0.5], [0.5, 1, 0.6]])


@pytest.mark.parametrize("by", ["knn", "linear"])
def test_pseudo_labels(by, tiny_run, photos, monkeypatch):
    monkeypatch.setattr(patterns, "load_patterns", functools.partial(patterns.load_patterns, 1000, 200))
    find = importlib.util.find_spec
    doubts = by == "knn" and find("cleanlab")  # which takes most of the time, and does not depend on `by`
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: doubts if name == "cleanlab" else find(name))
    record = evaluate(tiny_run, "pseudo_label", images=str(photos), by=by, threshold=0.3)
    folder = tiny_run / "evaluation"
    assert json.loads((folder / "pseudo_label.json").read_text()) == record
    with (folder / "pseudo_labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == record["labeled"] <= record["images"] == 18
    assert all(float(row["confidence"]) >= 0.3 for row in rows)
    thresholds, coverage, precision = np.transpose(record["curve"])
    assert (np.diff(thresholds) < 0).all() and (np.diff(coverage) > 0).all() and coverage[-1] == 1
    assert precision[-1] == pytest.approx(evaluate(tiny_run, by)["top1"])
    assert (folder / "label_issues.csv").exists() or not doubts
    assert imread(folder / "pseudo_label.png").ndim == 3


def test_labels_of_a_class_with_two_images_are_not_doubted(tmp_path, capsys):
    split = Split(ArrayImages(np.zeros((5, 8, 8, 3), np.uint8)), np.array([0, 0, 0, 1, 1], np.int32))
    pseudo_label._write_issues(None, split, "folder", ("a", "b"), tmp_path, tmp_path / "issues.csv")
    assert "a class has 2" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_labels_of_three_images_of_a_class_are_doubted(photos, tmp_path, monkeypatch):
    """The class comes first, where folds once held out the only image of it that was left."""
    pytest.importorskip("cleanlab")
    for name, count in (("blue", 4), ("red", 9)):  # a fifth are test images
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(count):
            shutil.copy(photos / name / f"{index}.png", tmp_path / "data" / name)
    shutil.copy(photos / "blue" / "8.png", tmp_path / "data" / "red" / "wrong.png")
    split = load_folder(tmp_path / "data", 8).train
    assert np.bincount(split.labels)[0] == 3
    split = Split(split.images, split.labels)
    monkeypatch.setattr(
        pseudo_label, "extract_once", lambda encoder, split, folder: split.array().mean(axis=(1, 2)) / np.float32(255)
    )
    pseudo_label._write_issues(None, split, "folder", ("blue", "red"), tmp_path, tmp_path / "issues.csv")
    with (tmp_path / "issues.csv").open() as file:
        assert all(Path(row["image"]).exists() for row in csv.DictReader(file))


def test_images_that_are_not_there_are_refused(tiny_run):
    with pytest.raises(ValueError, match="not there"):
        evaluate(tiny_run, "embed", images="nowhere")


def test_flags_that_are_missing_or_wrong_are_refused_in_one_line(tiny_run, run_python):
    for words, message in (
        (["--mode=neighbors"], "error: --images is needed"),
        (
            ["--mode=embed", "--images=tests", "--dataset=patterns"],
            "name one of them. Received: --images=tests and --dat",
        ),
        (["--mode=pseudo_label", "--images=tests", "--threshold=2"], "--threshold must be at most 1"),
    ):
        done = run_python("evaluate.py", f"--run_dir={tiny_run}", *words)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
