"""The engine trains what is no SimCLR, resumes it bit for bit, and says in one line what ends it."""

import ast
import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import files
from simclr_tf.distribution import LostWorkerError
from simclr_tf.training import engine
from simclr_tf.training.checkpoints import Position
from simclr_tf.training.signals import Interrupted, Stop
from tests.conftest import ROOT
from tests.training import classifier

SCRIPT = Path(__file__).with_name("classifier.py")


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def variables(folder):
    with np.load(max((folder / "checkpoints").glob("*.npz"))) as archive:
        return {name: archive[name] for name in archive.files if name not in ("meta", "manifest")}


def require_equal(ours, theirs):
    assert rows(ours) == rows(theirs)
    ours, theirs = variables(ours), variables(theirs)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def train(run_python):
    def run(folder, *words):
        result = run_python(SCRIPT, folder, *words)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module", params=["", pytest.param("--stream", marks=pytest.mark.slow)])
def whole(request, train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "whole"
    train(folder, *filter(None, [request.param]))
    return folder, [request.param] if request.param else []


def test_a_classifier_learns_and_logs_its_own_measures(whole):
    folder, _ = whole
    found = rows(folder)
    assert list(found[0]) == ["epoch", "step", "loss", "accuracy", "val_loss", "learning_rate"]
    assert [row["step"] for row in found] == ["3", "6", "9", "12"]
    assert float(found[-1]["loss"]) < 0.5 * float(found[0]["loss"])


# Two epochs; within the next ones.
@pytest.mark.slow
@pytest.mark.parametrize("steps", [6, 4, 8])
def test_a_resumed_classifier_is_the_uninterrupted_one(whole, train, tmp_path, steps):
    folder, words = whole
    train(tmp_path / "run", f"--max_steps={steps}", *words)
    assert len(rows(tmp_path / "run")) == -(-steps // 3)
    train(tmp_path / "run", "--resume", *words)
    require_equal(tmp_path / "run", folder)


@pytest.mark.slow
def test_a_signal_within_an_epoch_loses_nothing(whole, train, tmp_path):
    folder, words = whole
    assert "interrupted by 15" in train(tmp_path / "run", "--signal=step:8", *words)
    assert (tmp_path / "run" / "checkpoints" / "epoch-00002-step-00002.npz").exists()
    train(tmp_path / "run", "--resume", *words)
    require_equal(tmp_path / "run", folder)


def test_signals_in_a_validation_and_in_the_last_one_lose_nothing(whole, train, tmp_path):
    folder, words = whole
    assert "interrupted by 15" in train(tmp_path / "run", "--signal=validation:9", *words)
    assert (tmp_path / "run" / "checkpoints" / "epoch-00002-step-00003.npz").exists()
    assert "interrupted by 15" in train(tmp_path / "run", "--resume", "--signal=validation:3", *words)
    assert (tmp_path / "run" / "checkpoints" / "epoch-00003-step-00003.npz").exists()
    train(tmp_path / "run", "--resume", *words)
    require_equal(tmp_path / "run", folder)


@pytest.fixture
def no_determinism(monkeypatch):
    """Of a run in this process, which trains nothing: it could not be switched off again for other tests."""
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


def test_a_finished_run_is_left_as_it_is(whole, no_determinism, tmp_path, capsys):
    folder, words = whole
    shutil.copytree(folder, tmp_path / "run")
    classifier.main(str(tmp_path / "run"), "--resume", *words)
    assert "nothing left to train" in capsys.readouterr().out
    require_equal(tmp_path / "run", folder)


def test_the_classifier_needs_nothing_of_simclr():
    names = {
        node.module for node in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(node, ast.ImportFrom)
    }  # fmt: skip
    assert {name for name in names if name.startswith("simclr_tf")} == {
        "simclr_tf.config", "simclr_tf.data.source", "simclr_tf.training", "simclr_tf.training.signals",
    }  # fmt: skip


def test_other_images_are_not_continued_on(whole, no_determinism, tmp_path):
    folder, words = whole
    shutil.copytree(folder, tmp_path / "run")
    with pytest.raises(ValueError, match="only be continued on the images that it began with, 60 images, digest"):
        classifier.main(str(tmp_path / "run"), "--resume", *([] if words else ["--stream"]))


def test_a_run_that_fails_gives_its_folder_back(tmp_path):
    save, freed = SimpleNamespace(close=lambda: freed.append("saved")), []
    run = SimpleNamespace(chief=True, folder=tmp_path, _save=save)
    assert files.claim(tmp_path)
    with pytest.raises(FloatingPointError), engine.Run._given_back(run, None):
        raise FloatingPointError("The loss is no longer finite")
    assert freed == ["saved"] and tmp_path.resolve() not in files._HELD
    # A study sees by this file that the run has ended for good.
    assert "no longer finite" in (tmp_path / "divergence.json").read_text()


@pytest.mark.parametrize(("steps", "saved"), [(7, ["finish", "close"]), (8, ["close"])])
def test_what_was_learned_before_the_input_failed_is_saved(tmp_path, steps, saved):
    """But not in the middle of an update, after which the optimizer has counted a step more."""
    calls = []
    save = SimpleNamespace(
        position=Position(1, 3), finish=lambda: calls.append("finish"), close=lambda: calls.append("close")
    )
    run = run_of(chief=True, _save=save, plan=SimpleNamespace(steps_per_epoch=4))
    run.folder = tmp_path
    model = SimpleNamespace(optimizer=SimpleNamespace(iterations=tf.constant(steps)))
    with pytest.raises(ValueError, match="cannot be decoded"), engine.Run._given_back(run, model):
        raise ValueError("Images cannot be decoded")
    assert calls == saved


def test_a_whole_step_is_compiled_for_one_gpu_alone(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    monkeypatch.setattr(engine, "is_op_determinism_enabled", lambda: False)
    compiled, cpu = engine.whole_step_compiled, "/cpu:0"
    assert compiled(tf.distribute.OneDeviceStrategy(cpu))
    assert not compiled(tf.distribute.MirroredStrategy([cpu])) and not compiled(tf.distribute.get_strategy())
    monkeypatch.setattr(engine, "is_op_determinism_enabled", lambda: True)
    assert not compiled(tf.distribute.OneDeviceStrategy(cpu))


def run_of(**attributes):
    """A `Run` that was never set up, for what it does by itself."""
    settings = SimpleNamespace(training=SimpleNamespace(batch_size=64))
    return SimpleNamespace(
        folder=Path("runs/x"), _strategy=tf.distribute.get_strategy(), _settings=settings, **attributes
    )


def test_lack_of_memory_is_one_line_with_advice():
    with pytest.raises(ValueError, match="`precision=mixed_bfloat16`.*Received: `batch_size=64`"):
        with engine.naming_exhaustion(64):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(OSError, match="^/runs/x; No space left on device$"):  # of the same class in TensorFlow
        with engine.naming_exhaustion(64):
            raise tf.errors.ResourceExhaustedError(None, None, "/runs/x; No space left on device")


def test_a_worker_whose_chief_ended_at_a_signal_ends_alike():
    stop = Stop()
    stop.number = signal.SIGTERM
    with pytest.raises(Interrupted, match="go on"), engine.Run._naming_failures(run_of(), stop, "go on"):
        raise LostWorkerError("Lost worker 0")
    with pytest.raises(LostWorkerError), engine.Run._naming_failures(run_of(), Stop(), "go on"):
        raise LostWorkerError("Lost worker 0")
    with pytest.raises(BrokenPipeError), engine.Run._naming_failures(run_of(), stop, "go on"):
        raise BrokenPipeError("of a log that nobody reads")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGTERM, "143"),
        pytest.param(signal.SIGINT, "130", marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, "143", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_with_a_line_that_says_how_to_go_on(tmp_path, number, name):
    flags = ["--dataset=patterns", "--train_fraction=0.02", "--validation_fraction=0", "--augmentations=flip",
             "--encoder=tests.tiny:encoder", "--batch_size=32", "--epochs=5000"]  # fmt: skip
    command = [sys.executable, "train.py", *flags, f"--run_dir={tmp_path / 'run'}", "--checkpoint_epochs=1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/checkpoints/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == int(name), errors
    assert errors.splitlines() == [
        f"note     {signal.Signals(number).name}: finishing the step, then saving",
        "train.py: error: interrupted: continue from the newest checkpoint with "
        f"--run_dir={tmp_path / 'run'} --resume",
    ]  # fmt: skip
