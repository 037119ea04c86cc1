"""A study, a user's encoder and a head's layers by the commands that a user gives."""

import csv
import fcntl
import json
import os

import keras
import numpy as np
import pytest
from PIL import Image

from simclr_tf.config import Config
from simclr_tf.tasks.pretrain import pretrain
from tests.conftest import ROOT

FLAGS = ["--encoder=my_nets:tiny", "--batch_size=8", "--epochs=2", "--warmup_epochs=1", "--checkpoint_epochs=1",
         "--dataset=folder", "--image_size=16", "--validation_fraction=0.25"]  # fmt: skip
NETS = """
import keras
from simclr_tf.networks.normalization import SyncBatchNormalization

def tiny(image_shape):
    layers = [keras.layers.Conv2D(8, 3, 2), SyncBatchNormalization(), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential(layers)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two classes of 20 images, reddish and bluish noise, and a module with an encoder."""
    folder, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    (folder / "my_nets.py").write_text(NETS)
    for label, channel in (("red", 0), ("blue", 2)):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 128, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 128
            Image.fromarray(pixels).save(folder / "photos" / label / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run(place, run_python):
    """Runs a command line with the data and the user's module."""

    def command(*words):
        return run_python(*words, f"--data_dir={place / 'photos'}", PYTHONPATH=os.pathsep.join([str(ROOT), str(place)]))

    return command


def maps(image_shape):
    return keras.Sequential([keras.Input(image_shape), keras.layers.Conv2D(8, 3, 2)])


def test_a_wrong_encoder_deletes_nothing(place, tmp_path):
    """Not even with --overwrite."""
    (tmp_path / "config.json").write_text(json.dumps({"training": {}, "hardware": {}, "output": {}}))
    config = Config.of(
        dataset="folder", data_dir=str(place / "photos"), image_size=16, batch_size=8, epochs=2,
        encoder="tests.studies.test_whole:maps", run_dir=str(tmp_path), overwrite=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="vectors"):
        pretrain(config)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_a_study_from_start_to_end(run, tmp_path):
    study = ["-m", "flags.study", "temperature", "--only=yes,0.1,0.5", f"--runs_dir={tmp_path}", "--jobs=2"]
    first = run(*study, *FLAGS)
    assert first.returncode == 0, first.stderr + first.stdout
    assert "[2/2]" in first.stdout and "| yes | 0.1 |" in first.stdout
    folder = tmp_path / "temperature"
    assert {path.name for path in folder.glob("results.*")} == {"results.csv", "results.md", "results.png"}
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["temperature"] for row in rows] == ["0.1", "0.5"] and float(rows[0]["train_mib"]) > 100

    # Again, after one run lost its end, as if it had been killed: the other is left as it is.
    whole, cut = folder / "yes_0.1-seed0", folder / "yes_0.5-seed0"
    stamps = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    metrics = (cut / "metrics.csv").read_text()
    (cut / "evaluation" / "linear.json").unlink()
    (cut / "encoder" / "saved_model.pb").unlink()
    (cut / "checkpoints" / "epoch-00002.npz").unlink()
    with (cut / ".lock").open("a") as lock:  # as a process holds it that outlived a killed study
        fcntl.flock(lock, fcntl.LOCK_EX)
        left_alone = run(*study, *FLAGS)
    assert left_alone.returncode == 1 and "failed: train.py: error: Another process is training" in left_alone.stdout
    again = run(*study, *FLAGS)
    assert again.returncode == 0 and "1 of 2 runs are done" in again.stdout
    assert "continued after epoch 1" in (folder / "yes_0.5-seed0.log").read_text()
    assert [line.split(",")[0] for line in (cut / "metrics.csv").read_text().splitlines()] == [
        line.split(",")[0] for line in metrics.splitlines()
    ]
    assert stamps == {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

    other = run(*study, *FLAGS, "--epochs=3")
    assert other.returncode == 1 and "--runs_dir" in other.stderr

    # The representation at the layers of the head.
    for layer in (1, 2):
        result = run("evaluate.py", f"--run_dir={whole}", "--mode=knn", f"--layer={layer}")
        assert result.returncode == 0, result.stderr
        assert (whole / "evaluation" / f"layer{layer}" / "knn.json").exists()
    result = run("evaluate.py", f"--run_dir={whole}", "--mode=knn", "--layer=3")
    assert result.returncode == 1 and "layers 1 to 2" in result.stderr


@pytest.mark.slow
def test_a_dry_run_measures_and_leaves_nothing(run, tmp_path):
    result = run("-m", "flags.study", "temperature", "--only=yes,0.1,0.5", f"--runs_dir={tmp_path}",
                 "--dry_run", *FLAGS)  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert sum(line.startswith("to do") and "MiB" in line for line in lines) == 2
    assert sum(line.startswith("measuring") for line in lines) == 1
    assert "in all:" in lines[-1] and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_dry_run_tells_what_would_fail(run, tmp_path):
    result = run("-m", "flags.study", "temperature", "--only=yes,0.1,0.5", f"--runs_dir={tmp_path}",
                 "--dry_run", *FLAGS, "--encoder=tests.studies.test_whole:maps")  # fmt: skip
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert sum(line.startswith("to do") and "vectors" in line and ".log" not in line for line in lines) == 2
    assert lines[-1].endswith("without 2 of 2 runs, which failed")
