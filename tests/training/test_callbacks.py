"""What is saved when, by a thread, and what befalls it."""

import threading
from concurrent.futures import wait
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.config import Config, Output
from simclr_tf.training import callbacks, checkpoints
from simclr_tf.training.callbacks import SaveCheckpoints
from simclr_tf.training.checkpoints import Position

STEPS, START = 3, Position(0)  # steps of an epoch


@pytest.fixture
def model():
    """What the callback needs of a model."""
    return SimpleNamespace(
        weights=[keras.Variable(np.zeros(4, np.float32), name="w")], optimizer=SimpleNamespace(variables=[]),
        metrics=[keras.metrics.Mean(name="loss")], stop_training=False, distribute_strategy=tf.distribute.get_strategy(),
    )  # fmt: skip


def saver(folder, model, position=START, meta=None, best_from=0, **settings):
    (folder / "config.json").touch()  # a run's
    save = SaveCheckpoints(folder / "checkpoints", Output(**settings), STEPS, position, meta or {}, best_from)
    save.set_model(model)
    return save


def train(save, model, val_losses, steps=STEPS):
    """Steps of as many epochs as there are validation losses; the weight is the number of steps done."""
    for epoch, loss in enumerate(val_losses, save.position.epoch):
        for batch in range(steps):
            model.weights[0].assign(model.weights[0] + 1.0)
            model.metrics[0].update_state(1.5)
            save.on_train_batch_end(batch, {"loss": model.metrics[0].result()})
        save.on_epoch_end(epoch, {"val_loss": loss})
    save.finish()


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("settings", "epochs", "expected"),
    [
        ({"checkpoint_epochs": 2, "keep_checkpoints": 9}, 5, ["epoch-00002", "epoch-00004", "epoch-00005"]),
        ({"checkpoint_epochs": 1}, 4, ["epoch-00003", "epoch-00004"]),
        (
            {"save_every": "2steps", "keep_checkpoints": 9}, 2,
            ["epoch-00000-step-00002", "epoch-00001-step-00001", "epoch-00001-step-00003", "epoch-00002"],
        ),
    ],
)  # fmt: skip
def test_it_saves_as_often_as_asked_and_at_the_end(tmp_path, model, settings, epochs, expected):
    train(saver(tmp_path, model, **settings), model, [None] * epochs)
    assert [name.removesuffix(".npz") for name in names(tmp_path)] == expected
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert found.meta["step"] == epochs * STEPS == found.variables["w"][0]


def test_it_saves_every_few_minutes(tmp_path, model, monkeypatch):
    clock = iter(range(0, 10000, 40))  # seconds, each time it is asked
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    train(saver(tmp_path, model, save_every="1minute", keep_checkpoints=9), model, [None])
    assert "epoch-00000-step-00002.npz" in names(tmp_path)


def test_the_best_is_kept_also_after_a_restart(tmp_path, model):
    train(saver(tmp_path, model, checkpoint_epochs=1), model, [3.0, 1.0, 2.0, 2.0, 2.0])
    assert names(tmp_path) == ["epoch-00002.npz", "epoch-00004.npz", "epoch-00005.npz"]
    saved = checkpoints.newest(tmp_path / "checkpoints")
    train(saver(tmp_path, model, saved.position, saved.meta, checkpoint_epochs=1), model, [1.5, 0.5, 2.0, 2.0])
    assert names(tmp_path) == ["epoch-00007.npz", "epoch-00008.npz", "epoch-00009.npz"]


def test_the_last_checkpoint_can_be_the_best(tmp_path, model):
    train(saver(tmp_path, model, checkpoint_epochs=2), model, [3.0, 2.0, 1.0])
    assert checkpoints.newest(tmp_path / "checkpoints").meta["best"] == [1.0, 3]
    train(saver(tmp_path, model, checkpoint_epochs=2, save_every="3steps"), model, [0.5, 2.0, 1.0, 1.0, 1.0])
    assert checkpoints.newest(tmp_path / "checkpoints").meta["best"] == [1.0, 4]  # the first epoch was not saved


def test_losses_at_a_lower_resolution_are_not_the_best(tmp_path, model):
    training = Config.of(resolutions="16,16,24,24", epochs=5).training  # 16, 16, 16, 24, 24
    assert training.full_size_from == 3 and Config().training.full_size_from == 0
    save = saver(tmp_path, model, best_from=training.full_size_from, checkpoint_epochs=1)
    train(save, model, [1.0, 1.0, 1.0, 3.0, 4.0])
    assert checkpoints.newest(tmp_path / "checkpoints").meta["best"] == [3.0, 4]


def test_the_means_of_an_epoch_are_saved_within_it(tmp_path, model):
    model.stop_training = True
    train(saver(tmp_path, model), model, [None], steps=2)
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert found.position == (0, 2) and found.meta["means"] == {"loss": [3.0, 2.0]}


def test_a_step_does_not_wait_for_the_disk(tmp_path, model, monkeypatch):
    written = threading.Event()
    save = saver(tmp_path, model, save_every="1step")
    monkeypatch.setattr(callbacks, "_write", lambda *args: written.wait(30))
    save.on_train_batch_end(0, {"loss": 1.0})  # returns although nothing is written yet
    assert not written.is_set() and save.position == (0, 1)
    threading.Timer(0.1, written.set).start()
    save.finish()  # waits
    assert written.is_set()


def test_training_may_go_on_while_a_checkpoint_is_written(tmp_path, model, monkeypatch):
    """It holds a copy of the variables as they were."""
    write, changed = callbacks._write, threading.Event()

    def late(*args):
        changed.wait(30)
        write(*args)

    monkeypatch.setattr(callbacks, "_write", late)
    save = saver(tmp_path, model, save_every="1step")
    save.on_train_batch_end(0, {"loss": 1.0})
    model.weights[0].assign(np.full(4, 9.0))
    changed.set()
    save.finish()
    assert (checkpoints.newest(tmp_path / "checkpoints").variables["w"] == 0).all()


def test_what_befalls_the_thread_ends_the_run(tmp_path, model, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "checkpoint")

    monkeypatch.setattr(callbacks, "_write", full)
    save = saver(tmp_path, model, save_every="1step")
    save.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(OSError, match="No space left"):
        save.on_train_batch_end(1, {"loss": 1.0})


def test_a_failed_checkpoint_is_reported_at_the_next_step(tmp_path, model, monkeypatch):
    """Not when the next one is due, which may be hours later."""
    monkeypatch.setattr(callbacks, "_write", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left")))
    save = saver(tmp_path, model, save_every="2steps")
    save.on_train_batch_end(0, {"loss": 1.0})
    save.on_train_batch_end(1, {"loss": 1.0})
    wait([save._writing])
    with pytest.raises(OSError, match="No space left"):
        save.on_train_batch_end(2, {"loss": 1.0})


def test_what_could_not_be_written_is_tried_again_at_the_end(tmp_path, model, monkeypatch):
    """As when a signal comes after a disk was full for a moment."""
    write, tries = callbacks._write, []

    def at_first_full(*args):
        tries.append(args)
        if len(tries) == 1:
            raise OSError(28, "No space left")
        write(*args)

    monkeypatch.setattr(callbacks, "_write", at_first_full)
    save = saver(tmp_path, model, save_every="1step")
    save.on_train_batch_end(0, {"loss": 1.0})
    model.metrics[0].update_state(7.0)  # as the validation does, which uses the means for its own
    save.finish()
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert found.position == (0, 1) and found.meta["means"] == {"loss": [0.0, 0.0]} and len(tries) == 2


def test_a_poisoned_checkpoint_is_not_written(tmp_path, model):
    train(saver(tmp_path, model, checkpoint_epochs=1), model, [None])
    model.weights[0].assign(np.array([1, np.nan, 2, 3], np.float32))
    with pytest.raises(FloatingPointError, match="after epoch 2, step 0.*`learning_rate`.*Received: w$"):
        train(saver(tmp_path, model, Position(1), checkpoint_epochs=1), model, [None])
    assert names(tmp_path) == ["epoch-00001.npz"]


@pytest.mark.parametrize("text", ["5", "0steps", "5 hours", "-1steps", "steps", "1.5minutes"])
def test_an_interval_is_steps_or_minutes(text):
    with pytest.raises(ValueError, match=f"`save_every` must be like 500steps or 10minutes. Received: {text}"):
        Output(save_every=text)
    assert (Output(save_every="5steps").save_steps, Output(save_every="5 minutes").save_minutes) == (5, 5)
    assert Output(save_every="5steps").save_minutes is None is Output().save_steps
