"""Fine-tuning and its baseline, on a tiny run."""

import functools
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import encoders
from simclr_tf.config import Config, Finetune, Supervised
from simclr_tf.data import patterns
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.data.splits import labeled_part
from simclr_tf.evaluation import evaluate
from simclr_tf.protocols.training import training_settings
from simclr_tf.training.metrics import read_rows
from tests.conftest import ROOT


def split(counts):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return Split(ArrayImages(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)), labels)


def test_a_part_of_the_labels_is_balanced_seeded_and_nested():
    whole = split([40, 30, 30])
    tenth, half = (labeled_part(whole, fraction, seed=1) for fraction in (0.1, 0.5))
    assert np.bincount(tenth.labels).tolist() == [3, 3, 3] and np.bincount(half.labels).tolist() == [17, 17, 17]
    members = [set(part.array().ravel().tolist()) for part in (tenth, half, labeled_part(whole, 0.1, seed=1))]
    assert members[0] < members[1] and members[0] == members[2]
    assert members[0] != set(labeled_part(whole, 0.1, seed=2).array().ravel().tolist())
    assert labeled_part(whole, 1.0, seed=1) is whole
    assert np.bincount(labeled_part(split([2, 50]), 0.5, 0).labels).tolist() == [2, 13]


@pytest.mark.parametrize("fraction", [0.001, 0.0, 1.5])
def test_a_part_without_a_class_is_refused(fraction):
    with pytest.raises(
        ValueError, match=f"each of the 2 classes, of 100 images. Received: `label_fraction={fraction:g}`"
    ):
        labeled_part(split([50, 50]), fraction, 0)


def test_settings_of_the_training(tmp_path):
    config = Config.of(augmentations="simclr_blur", resolutions="16,32", width=0.25, precision="mixed_bfloat16",
                       data_service="gone:1", strategy="mirrored", logical_cpus=2)  # fmt: skip
    config = config.replace("output", profile=True, max_bad_files="5")
    tuned = training_settings(config, Finetune(label_fraction=0.01), 450, tmp_path)
    assert tuned.hardware.data_service is None
    assert not tuned.output.profile and tuned.output.bad_files(1000) == 0  # no label may go to another image
    assert training_settings(config, Finetune(), 90, tmp_path, replicas=4).training.batch_size == 88
    assert training_settings(config, Finetune(), 1000, tmp_path, replicas=3).training.batch_size == 255
    assert (tuned.hardware.strategy, tuned.hardware.logical_cpus) == ("auto", 1)
    assert (tuned.augmentation.augmentations, tuned.training.batch_size, tuned.training.resolutions) == (
        "crop,flip",
        256,
        None,
    )
    assert (
        tuned.training.epochs == 1000 and training_settings(config, Finetune(), 45000, tmp_path).training.epochs == 30
    )
    assert training_settings(config, Finetune(label_fraction=0.01), 4500, tmp_path).training.epochs == 60
    scratch = training_settings(config, Supervised(label_fraction=0.01, epochs=5), 100, tmp_path)
    assert (scratch.augmentation, scratch.network) == (config.augmentation, config.network)
    assert (scratch.training.epochs, scratch.training.batch_size, scratch.training.precision) == (
        5,
        100,
        "mixed_bfloat16",
    )


@pytest.mark.parametrize("mode", ["finetune", pytest.param("supervised", marks=pytest.mark.slow)])
def test_whole(mode, tiny_run, capsys, monkeypatch):
    monkeypatch.setattr(patterns, "load_patterns", functools.partial(patterns.load_patterns, 1000, 200))
    settings = {"label_fraction": 0.1, "epochs": 2, "batch_size": 32}
    record = evaluate(tiny_run, mode, **settings)
    folder = tiny_run / "evaluation" / f"{mode}-0.1-seed0"
    assert json.loads((folder / f"{mode}.json").read_text()) == record
    assert (record["mode"], record["label_fraction"], record["baselines"]) == (mode, 0.1, {})
    assert record["encoder_digest_before"] != record["encoder_digest_after"]  # all layers learn
    start = encoders.load_encoder if mode == "finetune" else encoders.random_encoder
    assert record["encoder_digest_before"] == encoders.weights_digest(start(tiny_run))
    row = read_rows(folder / "metrics.csv")[-1]
    # The 100 validation images would take longer than the 90 to learn from.
    assert row["epoch"] == 2 and row["accuracy"] > 0 and row["val_loss"] is None
    # Again, nothing is left to train, and the result is the same.
    capsys.readouterr()
    assert evaluate(tiny_run, mode, **settings) == record
    printed = capsys.readouterr().out
    assert "nothing left to train" in printed
    assert f"{mode} on patterns" in printed and ("fine-tuned encoder" in printed) == (mode == "finetune")
    with pytest.raises(ValueError, match="holds a training with `epochs=2`.*Received: `epochs=3`"):
        evaluate(tiny_run, mode, **settings | {"epochs": 3})
    evaluate(folder, "export")
    card = (folder / "MODEL_CARD.md").read_text()
    assert "trained with labels of 10 classes" in card and "Trained for 2 epochs" in card and "no label" not in card
    assert "together with the encoder" in card and f"| patterns | {mode} |" in card
    test = patterns.load_patterns().test
    classify = tf.saved_model.load(str(folder / "encoder")).signatures["classify"]
    found = classify(images=tf.constant(test.array()))["class_name"].numpy().astype(str)
    assert np.mean(found == np.array(record["class_names"])[test.labels]) == record["top1"]
    # The pretraining went on in the meantime: the result of another encoder must not pass for that of this one.
    load = encoders.load_encoder if mode == "finetune" else encoders.random_encoder

    def changed(*args, **kwargs):
        encoder = load(*args, **kwargs)
        encoder.weights[0].assign_add(np.ones_like(encoder.weights[0]))
        return encoder

    monkeypatch.setattr(encoders, load.__name__, changed)
    with pytest.raises(ValueError, match=f"with the encoder that it began with, .* delete its folder, {folder}"):
        evaluate(tiny_run, mode, **settings)


@pytest.mark.slow
def test_it_can_start_at_a_layer_of_the_head(tiny_run):
    record = evaluate(tiny_run, "finetune", layer=1, label_fraction=0.1, epochs=1, batch_size=32)
    assert record["encoder_digest_before"] == encoders.weights_digest(encoders.load_encoder(tiny_run, 1))
    assert (tiny_run / "evaluation" / "layer1" / "finetune-0.1-seed0" / "finetune.json").exists()


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_result(tiny_run, tmp_path, run_python):
    """The same command again, after SIGKILL; deterministic runs, so that weights can be compared."""
    results = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("evaluation", "features"))
        config = json.loads((folder / "config.json").read_text())
        config["training"]["deterministic"] = True
        (folder / "config.json").write_text(json.dumps(config))
        words = ["evaluate.py", f"--run_dir={folder}", "--mode=finetune", "--label_fraction=0.1", "--epochs=20"]
        if name == "killed":
            process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
            kept = folder / "evaluation" / "finetune-0.1-seed0" / "checkpoints"
            while not list(kept.glob("epoch-*.npz")):
                assert process.poll() is None
                time.sleep(0.05)
            process.kill()
            process.wait()
            assert not (kept.parent / "finetune.json").exists()
        result = run_python(*words)
        assert result.returncode == 0, result.stderr
        results.append(json.loads((folder / "evaluation" / "finetune-0.1-seed0" / "finetune.json").read_text()))
    assert results[0]["encoder_digest_after"] == results[1]["encoder_digest_after"]
    assert results[0]["top1"] == results[1]["top1"]


@pytest.mark.slow
def test_several_workers_tune_together(tiny_run, tmp_path, run_python):
    """Transfer has fine-tuning in it, several times in a process."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("evaluation", "features"))
    words = ["evaluate.py", f"--run_dir={folder}", "--batch_size=256", "--epochs=1", "--strategy=multiworker"]
    for mode in (["--mode=finetune", "--label_fraction=0.2"], ["--mode=transfer", "--targets=patterns"]):
        done = run_python("-m", "flags.launch", "--workers=2", "--", *words, *mode, CUDA_VISIBLE_DEVICES="-1")
        assert done.returncode == 0, done.stderr
    assert (folder / "evaluation" / "finetune-0.2-seed0" / "finetune.json").exists()
    record = json.loads((folder / "evaluation" / "transfer.json").read_text())
    # The accuracy after an epoch on an encoder of one step is that of chance.
    assert record["targets"]["patterns"]["finetune"]["n_train"] == 5000
