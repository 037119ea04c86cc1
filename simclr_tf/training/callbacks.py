"""Callbacks that save a run and end it."""

from pathlib import Path
from typing import Any

import keras

from simclr_tf.training import checkpoints, run_folder


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the model's and its optimizer's variables every few epochs, and after the last.

    Args:
        folder: Where the checkpoints lie, in the folder of a run.
        every: Epochs between two of them.
        meta: JSON values saved with each.
    """

    def __init__(self, folder: Path, every: int, meta: dict[str, Any]):
        super().__init__()
        self._folder, self._every, self._meta = folder, every, meta
        self._epoch = self._saved = 0

    def on_epoch_end(self, epoch, logs=None):
        """Saves every few epochs."""
        self._epoch = epoch + 1
        if self._epoch % self._every == 0:
            self._save()

    def on_train_end(self, logs=None):
        """Saves what has been learned since."""
        if self._epoch > self._saved:
            self._save()

    def _save(self) -> None:
        run_folder.require(self._folder.parent)
        optimizer = self.model.optimizer
        arrays = checkpoints.collect([*self.model.weights, *optimizer.variables])
        checkpoints.save(self._folder, self._epoch, arrays, {**self._meta, "step": int(optimizer.iterations.numpy())})
        self._saved = self._epoch


class StopAfter(keras.callbacks.Callback):
    """Ends training after so many more steps, also within an epoch."""

    def __init__(self, steps: int):
        super().__init__()
        self._left = steps

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self._left -= 1
        if self._left <= 0:
            self.model.stop_training = True
