"""Callbacks that save a run and end it."""

import ctypes
import math
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf.config import Output
from simclr_tf.training import checkpoints, means, run_folder
from simclr_tf.training.checkpoints import Position
from simclr_tf.training.epoch_log import scalar
from simclr_tf.training.signals import Stop


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the variables of the model and its optimizer, and the means of the epoch, as often as the settings say.

    A step waits only while the variables are copied: a thread hashes and writes the copy. It waits longer if the previous
    checkpoint is still being written.

    Args:
        folder: Where the checkpoints lie, in the folder of a run.
        settings: How often to save, and how many to keep.
        steps_per_epoch: Steps of an epoch.
        position: How far the run is already.
        meta: JSON values saved with each; `best` among them in a run that is continued.
        best_from: The first epoch, counted from 0, whose validation loss counts for the best.

    Attributes:
        position: How far the run is.
    """

    def __init__(
        self, folder: Path, settings: Output, steps_per_epoch: int, position: Position, meta: dict[str, Any],
        best_from: int = 0,
    ):  # fmt: skip
        super().__init__()
        self._folder, self._settings, self._steps, self._meta = folder, settings, steps_per_epoch, meta
        self._best_from = best_from
        self.position = self._saved = position
        best = meta.get("best")  # of earlier versions, perhaps at a lower resolution
        self._best: tuple[float, int] | None = tuple(best) if best and best[1] > best_from else None  # val_loss, epoch
        self._val_loss: Any = None  # after the last whole epoch
        self._clock = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Saves every few steps or minutes, and where the run ends within an epoch; raises what writing has raised."""
        if self._writing and self._writing.done():
            self._wait()
        self.position = Position(self.position.epoch, self.position.step + 1)
        if self.position.step == self._steps:  # kept now, because validation uses the means for its own
            logs = {name: scalar(value) for name, value in (logs or {}).items()}
            self._epoch = {"means": means.collect(self.model), "logs": logs}
        number = self.position.total_steps(self._steps)
        minutes = self._settings.save_minutes
        if (
            (self._settings.save_steps and number % self._settings.save_steps == 0)
            or (minutes and time.monotonic() - self._clock >= 60 * minutes)
            or (self.model.stop_training and self.position.step < self._steps)
        ):
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        """Saves every few epochs."""
        if self.position.step < self._steps:  # ended within the epoch, and saved there
            return
        self.position, self._val_loss = Position(epoch + 1), (logs or {}).get("val_loss")
        if (epoch + 1) % self._settings.checkpoint_epochs == 0:
            self.save()

    def save(self) -> None:
        """Starts writing a checkpoint; raises the error of the previous one if writing it failed."""
        self._wait()
        run_folder.require(self._folder.parent)
        arrays = checkpoints.collect([*self.model.weights, *self.model.optimizer.variables])
        if self.position != self._saved:  # else again, as it was: validation uses the means for its own
            loss = None if self.position.step or self._val_loss is None else scalar(self._val_loss)
            if loss is not None and self.position.epoch > self._best_from and loss < (self._best or (math.inf,))[0]:
                self._best = loss, self.position.epoch
            self._last = {**self._meta, "step": self.position.total_steps(self._steps), "best": self._best}
            if self.position.step == self._steps:
                self._last |= self._epoch
            elif self.position.step:
                self._last["means"] = means.collect(self.model)
        best = self._best and self._best[1]
        self._writing = self._thread.submit(
            _write, self._folder, self.position, arrays, self._last, self._settings.keep_checkpoints, best
        )
        self._saved, self._clock = self.position, time.monotonic()

    def finish(self) -> None:
        """Saves what has been learned since, and waits until it is written; once more if the last time failed."""
        try:
            self._wait()
            current = self.position == self._saved
        except OSError:
            current = False
        if not current:
            self.save()
        self._wait()

    def close(self) -> None:
        """Waits for the checkpoint that is being written, whether that fails or not."""
        self._thread.shutdown()

    def _wait(self) -> None:
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()


def _write(folder: Path, position: Position, arrays: dict[str, np.ndarray], *rest: Any) -> None:
    lost = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if lost:  # it would be of no use, and replace one that is
        raise FloatingPointError(
            f"{len(lost)} variables are not finite, so no checkpoint was written after epoch {position.epoch}, step "
            f"{position.step}: lower `learning_rate` or raise `warmup_epochs`. Received: {', '.join(lost[:3])}"
        )
    checkpoints.save(folder, position, arrays, *rest)


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


class StopWhenAsked(keras.callbacks.Callback):
    """Saves and ends the run after the step in which a signal came; raises `Interrupted`."""

    def __init__(self, stop: Stop, save: SaveCheckpoints, advice: str):
        super().__init__()
        self._stop, self._save, self._advice = stop, save, advice

    def check(self, *_: Any, **__: Any) -> None:
        """Saves the run and raises `Interrupted` if a signal has come."""
        if self._stop.number is not None:
            self._save.finish()
            raise self._stop.now(self._advice)

    on_train_batch_end = on_test_batch_end = on_epoch_end = check


class GoOn(keras.callbacks.Callback):
    """Restores the means of the epoch within which a run was interrupted and is now continued."""

    def __init__(self, saved: means.Means):
        super().__init__()
        self._means: means.Means | None = saved

    def on_epoch_begin(self, epoch, logs=None):
        """Restores them once."""
        if self._means is not None:
            means.restore(self.model, self._means)
            self._means = None


class ReleaseMemory(keras.callbacks.Callback):
    """Returns freed memory to the system after each epoch.

    glibc keeps it for reuse, a fifth of the process and more in time, as it is in pieces. Other C libraries are left alone.
    """

    def __init__(self):
        super().__init__()
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

    def on_epoch_end(self, epoch, logs=None):
        """Returns it; that takes milliseconds."""
        if self._trim:
            self._trim(0)
