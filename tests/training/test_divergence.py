"""The watch over the loss and the gradients of each step."""

from types import SimpleNamespace

import numpy as np
import pytest

from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.training.checkpoints import Position
from simclr_tf.training.divergence import Divergence

STEPS = 4


def watch(skip, shares, folder):
    """An epoch whose steps log these shares of skipped steps so far."""
    train = Split(ArrayImages(np.zeros((4 * STEPS, 4, 4, 3), np.uint8)))
    watcher = Divergence(train, 4, 0, False, STEPS, skip, folder, Position(0))
    watcher.set_model(SimpleNamespace(trainable_variables=[]))
    for step, share in enumerate(shares):
        watcher.on_train_batch_end(step, {"loss": 1.0, "skipped": share})
    watcher.on_epoch_end(0)


def test_skipped_steps_are_counted_and_an_epoch_of_nothing_else_ends_the_run(tmp_path, capsys):
    watch(True, [0, 1 / 2, 1 / 3, 1 / 4], tmp_path)
    assert "1 of 4 steps had a loss" in capsys.readouterr().out
    with pytest.raises(FloatingPointError, match="in step 4 .*and nothing but such steps"):
        watch(True, [1, 1, 1, 1], tmp_path)


def test_without_skipping_the_first_such_step_ends_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="in step 2 .*Received: `on_nan=stop`"):
        watch(False, [0, 1 / 2], tmp_path)
