"""Whole runs of a tiny encoder on a folder of images."""

import csv
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf.config import Config
from simclr_tf.data.pipeline import batch_indices
from simclr_tf.evaluation import evaluate
from simclr_tf.tasks.pretrain import images_of, pretrain
from simclr_tf.tasks.simclr import SimCLR
from simclr_tf.training import checkpoints, run_folder

FLAGS = ["--encoder=tests.tiny:encoder", "--augmentations=crop,flip", "--batch_size=8", "--epochs=4", "--warmup_epochs=1",
         "--checkpoint_epochs=1", "--dataset=folder", "--image_size=16", "--validation_fraction=0.25",
         "--monitor_every=2"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_determinism(monkeypatch):
    """Of the runs in this process: it could not be switched off again for other tests."""
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 20 images: reddish and bluish noise."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, channel in (("red", 0), ("blue", 2)):
        (folder / label).mkdir()
        for index in range(20):
            pixels = rng.integers(0, 128, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 128
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def train(photos, run_python):
    def run(run_dir, *extra):
        result = run_python("train.py", *FLAGS, f"--data_dir={photos}", f"--run_dir={run_dir}", *extra)
        assert result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """A deterministic run, its folder and its output."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(folder, "--deterministic")


def rows(run_dir):
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(run_dir):
    path = max((run_dir / "checkpoints").glob("*.npz"))
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name not in ("meta", "manifest")}


def test_files_of_a_run(finished):
    run_dir, result = finished
    for name in ("config.json", "flags.txt", "environment.json", "metrics.csv", "plots/loss.png", "plots/views.png",
                 "encoder/saved_model.pb"):  # fmt: skip
        assert (run_dir / name).stat().st_size > 0, name
    assert list((run_dir / "tensorboard").glob("events*"))
    # A dry run of a study reads it there.
    assert re.search(r"^steps +(\d+) an epoch", result.stdout, re.MULTILINE)[1] == rows(run_dir)[0]["step"]
    assert [row["epoch"] for row in rows(run_dir)] == ["1", "2", "3", "4"]
    assert list(rows(run_dir)[0]) == [
        "epoch", "step", "loss", "val_loss", "contrastive_accuracy", "contrastive_entropy", "knn", "rank", "alignment",
        "uniformity", "learning_rate", "images_per_second",
    ]  # fmt: skip
    assert [row["knn"] != "" for row in rows(run_dir)] == [False, True, False, True]
    assert json.loads((run_dir / "config.json").read_text())["training"]["batch_size"] == 8


def test_output_is_the_run_and_nothing_else(finished):
    _, result = finished
    assert result.stderr == ""
    assert sum(line.startswith("epoch ") for line in result.stdout.splitlines()) == 4
    rate = 1.0 * 8 / 256
    assert f"learning rate {rate}" in result.stdout


@pytest.mark.slow
def test_the_same_command_gives_the_same_numbers(finished, train, tmp_path):
    """Replayed from its flagfile, in another process."""
    run_dir, _ = finished
    train(tmp_path / "again", f"--flagfile={run_dir / 'flags.txt'}")
    for column in ("loss", "val_loss", "contrastive_accuracy"):
        assert [r[column] for r in rows(run_dir)] == [r[column] for r in rows(tmp_path / "again")], column


def test_resumed_is_uninterrupted_bit_for_bit(finished, train, tmp_path):
    whole, _ = finished
    run_dir = tmp_path / "resumed"
    steps = int(rows(whole)[1]["step"]) + 2
    train(run_dir, "--deterministic", f"--max_steps={steps}")
    assert len(rows(run_dir)) == 3
    result = train(run_dir, "--deterministic", "--resume")
    assert "continued after epoch 2 and 2 steps" in result.stdout
    for column in rows(whole)[0].keys() - {"images_per_second"}:
        assert [r[column] for r in rows(whole)] == [r[column] for r in rows(run_dir)], column
    ours, theirs = weights(whole), weights(run_dir)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_run_whose_input_fails_goes_on_from_there_to_the_same_end(finished, train, photos, run_python, tmp_path):
    whole, _ = finished
    run_dir, words = tmp_path / "run", ("--deterministic", "--resume", "--checkpoint_epochs=9", "--max_bad_files=0")
    train(run_dir, *words, "--max_steps=4")
    _, images, _ = images_of(Config.load(run_dir / "config.json"))
    path = Path(images.images.paths[batch_indices(len(images), 8, 0, 1, 2)[0]])  # of the sixth step
    intact = path.read_bytes()
    path.write_bytes(intact[:-30] + bytes(10) + intact[-20:])  # which nothing but decoding tells
    try:
        failed = run_python("train.py", *FLAGS, f"--data_dir={photos}", f"--run_dir={run_dir}", *words)
    finally:
        path.write_bytes(intact)
    assert (
        failed.returncode == 1
        and f"Images cannot be decoded: remove these files or replace them. Received: {path}" in (failed.stderr)
    )
    assert checkpoints.newest(run_dir / "checkpoints").position == (1, 2)
    train(run_dir, *words)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(run_dir)[name], err_msg=name)


@pytest.mark.slow
def test_nothing_is_held_out_on_request(train, run_python, tmp_path):
    """Then there is no validation loss, and probes hold out images of their own."""
    result = train(tmp_path / "run", "--validation_fraction=0", "--max_steps=4")
    assert "32 images to train on, 0 for validation" in result.stdout
    assert [row["val_loss"] for row in rows(tmp_path / "run")] == [""]
    judged = run_python("evaluate.py", f"--run_dir={tmp_path / 'run'}", "--mode=linear")
    assert judged.returncode == 0, judged.stderr
    assert json.loads((tmp_path / "run" / "evaluation" / "linear.json").read_text())["n_train"] == 32


def test_an_existing_run_is_not_touched(finished, photos, run_python):
    run_dir, _ = finished
    before = (run_dir / "metrics.csv").read_text()
    result = run_python("train.py", *FLAGS, f"--data_dir={photos}", f"--run_dir={run_dir}")
    assert result.returncode == 1 and "--overwrite" in result.stderr
    assert (run_dir / "metrics.csv").read_text() == before


@pytest.mark.slow
def test_mirrored_gives_what_single_gives(finished, train, tmp_path):
    run_dir, _ = finished
    train(tmp_path / "mirrored", "--deterministic", "--strategy=mirrored", "--logical_cpus=2")
    losses = [[float(r[c]) for r in rows(d) for c in ("loss", "val_loss")] for d in (run_dir, tmp_path / "mirrored")]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    theirs = weights(tmp_path / "mirrored")
    for name, value in weights(run_dir).items():
        difference = np.linalg.norm(value - theirs[name]) / max(np.linalg.norm(value), 1e-6)
        assert difference < 0.02, name


def test_a_step_that_is_not_finite_ends_the_run_before_its_update(photos, run_python, tmp_path):
    result = run_python("train.py", *FLAGS, f"--data_dir={photos}", f"--run_dir={tmp_path / 'nan'}",
                        "--optimizer=sgd", "--learning_rate=1e30", "--warmup_epochs=0")  # fmt: skip
    assert result.returncode == 3
    assert "no longer finite in step 2 (epoch 1)" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list((tmp_path / "nan").glob("checkpoints/*"))
    report = json.loads((tmp_path / "nan" / "divergence.json").read_text())
    assert report["step"] == 2 and len(set(report["batch"])) == 8 and "--" not in report["advice"]
    assert all(
        norms["weight"] > 0 and "gradient" in norms for name, norms in report["norms"].items() if "kernel" in name
    )
    assert any(norms["gradient"] in ("nan", "inf") for norms in report["norms"].values())


def test_evaluation(finished, run_python):
    run_dir, _ = finished
    result = run_python("evaluate.py", f"--run_dir={run_dir}", "--mode=linear", "--baselines")
    assert result.returncode == 0 and result.stderr == "", result.stderr
    evaluate(run_dir, "knn", baselines=True)
    for mode in ("linear", "knn"):
        record = json.loads((run_dir / "evaluation" / f"{mode}.json").read_text())
        # Red and blue: raw pixels tell them apart, so a protocol that works gives them all.
        assert record["baselines"]["raw pixels"]["top1"] == 1.0
        assert record["encoder_digest_before"] == record["encoder_digest_after"]
        assert record["n_train"] == 32 and record["n_test"] == 8
        assert mode == "knn" or f"{100 * record['top1']:.1f}" in result.stdout
        assert (run_dir / "evaluation" / f"{mode}_confusion.png").stat().st_size > 0


def test_other_images_do_not_pass_for_the_runs(finished, photos, tmp_path):
    run_dir, other = finished[0], tmp_path / "other"
    shutil.copytree(photos, other)
    evaluate(run_dir, "knn", dataset="folder", data_dir=str(other))
    (record,) = (run_dir / "evaluation").glob("other-*/knn.json")
    assert json.loads(record.read_text())["data_dir"] == str(other.resolve())


@pytest.mark.slow
def test_images_that_disappear_end_a_run_in_one_line(finished, photos, run_python, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    code = (
        "import pathlib, sys, simclr_tf.quiet\nimport simclr_tf.training.engine as engine\nfit = engine.Run.fit\n"
        "images = pathlib.Path(sys.argv[1])\n"
        "def removing(self, *arguments):\n"
        "    for path in images.glob('*/*.png'): path.unlink()\n"
        "    fit(self, *arguments)\n"
        "engine.Run.fit = removing\n"
        "sys.argv = ['train.py', *sys.argv[2:]]\nfrom flags.train import main\nmain()\n"
    )
    flags = [*FLAGS, f"--data_dir={images}", f"--run_dir={tmp_path / 'run'}"]
    result = run_python("-c", code, images, *flags)
    assert result.returncode == 1
    assert result.stderr.startswith("train.py: error: Images cannot be decoded")
    assert len(result.stderr.splitlines()) == 1


def test_the_library_does_not_continue_with_other_settings(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    config = Config.load(folder / "config.json").replace("output", run_dir=str(folder), resume=True)
    with pytest.raises(
        ValueError, match="`resume` continues a run with `temperature=0.5`.*Received: `temperature=0.1`"
    ):
        pretrain(config.replace("objective", temperature=0.1))


def test_an_export_is_not_made_again_when_nothing_was_left_to_train(finished, tmp_path):
    """It may have a classifier by now."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    file = folder / "encoder" / "saved_model.pb"
    before = file.stat().st_mtime_ns
    config = Config.load(folder / "config.json").replace("output", run_dir=str(folder), resume=True)
    pretrain(config)
    assert file.stat().st_mtime_ns == before
    assert (folder / "flags.txt").read_text() == (finished[0] / "flags.txt").read_text()
    checkpoint = max((folder / "checkpoints").glob("*.npz"))
    os.utime(checkpoint, (time.time(), time.time() + 10))
    pretrain(config)
    assert file.stat().st_mtime_ns > before


def test_a_run_that_another_process_went_on_with_is_not_continued(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    opened = run_folder.open_run_dir

    def later(*arguments):
        (folder / "checkpoints" / "epoch-00009.npz").touch()
        return opened(*arguments)

    monkeypatch.setattr(run_folder, "open_run_dir", later)
    with pytest.raises(ValueError, match="Another process went on with this run meanwhile"):
        pretrain(Config.load(folder / "config.json").replace("output", run_dir=str(folder), resume=True))


def test_a_run_is_not_continued_on_fewer_images(finished, photos, tmp_path):
    run_dir, images = tmp_path / "run", tmp_path / "images"
    shutil.copytree(finished[0], run_dir)
    shutil.copytree(photos, images)
    config = json.loads((run_dir / "config.json").read_text())
    config["data"]["data_dir"] = str(images)
    (run_dir / "config.json").write_text(json.dumps(config))
    config = Config.load(run_dir / "config.json").replace("output", run_dir=str(run_dir), resume=True)
    for name in ("3.png", "5.png"):
        (images / "red" / name).unlink()
    with pytest.raises(
        ValueError, match=f"images that it began with, 24 images, digest.*or delete its folder, {run_dir}"
    ):
        pretrain(config)


def test_a_run_notices_that_its_folder_is_gone(tmp_path, monkeypatch):
    folder, step = tmp_path / "run", SimCLR.test_step

    def delete(*arguments):
        shutil.rmtree(folder, ignore_errors=True)
        return step(*arguments)

    monkeypatch.setattr(SimCLR, "test_step", delete)
    settings = {"dataset": "patterns", "encoder": "tests.tiny:encoder", "augmentations": "flip", "batch_size": 32}
    with pytest.raises(FileNotFoundError, match="The folder of the run was deleted or moved"):
        pretrain(Config.of(**settings, epochs=2, max_steps=2, run_dir=str(folder)))
    assert not (folder / "config.json").exists()


def test_images_to_judge_by_need_labels(photos, tmp_path):
    judge = {"judge_dataset": "folder", "judge_data_dir": str(photos / "red")}
    config = Config.of(dataset="patterns", image_size=32, run_dir=str(tmp_path / "run"), **judge)
    with pytest.raises(ValueError, match="`judge_dataset` must have labels.*Received: .*red"):
        pretrain(config)


LOAD = """
import sys
sys.modules["simclr_tf"] = sys.modules["keras"] = None  # importing either fails
import numpy as np, tensorflow as tf
encoder = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
floats, images = tf.constant(images / np.float32(255)), tf.constant(images)
np.savez(sys.argv[3], uint8=encoder(images), one=encoder(images[:1]), none=encoder(images[:0]), float=encoder(floats),
    served=encoder.signatures["serving_default"](images=floats)["representation"],
    served_uint8=encoder.signatures["embed"](images=images)["representation"])
"""


def test_exported_encoder_needs_tensorflow_only(finished, run_python, tmp_path):
    from simclr_tf.encoders import load_encoder

    run_dir, _ = finished
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "load.py").write_text(LOAD)
    result = run_python(tmp_path / "load.py", run_dir / "encoder", tmp_path / "images.npy", tmp_path / "h.npz",
                        PYTHONPATH="")  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected = np.asarray(load_encoder(run_dir)(images / np.float32(255), training=False))
    h = np.load(tmp_path / "h.npz")
    for name in ("uint8", "float", "served", "served_uint8"):
        assert h[name].dtype == np.float32
        np.testing.assert_allclose(h[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(h["one"], expected[:1], rtol=1e-5, atol=1e-5)
    assert h["none"].shape == (0, expected.shape[1])
