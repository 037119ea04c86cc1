"""The log of a run: a row, a line and TensorBoard scalars for each epoch."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.training import metrics, run_folder


class EpochLog(keras.callbacks.Callback):
    """Logs every epoch to `metrics.csv`, TensorBoard and a stream.

    Put it before callbacks that save: it ends a run whose loss is no longer finite, and what comes after it in the
    list then does not see that epoch. Under several workers, give it to the first one only.

    `images_per_second` leaves out validation and the first step of an epoch, which traces and compiles in the first one
    and where views change their size; it is empty where that step is all that the process did. `learning_rate` is that
    of the epoch's last update.

    Args:
        run_dir: Folder of the run.
        measures: Names of the logs to keep, in the order of the columns, and the pattern by which a line shows each;
            `loss` is among them. What an epoch does not have stays empty.
        images_per_step: Global batch size.
        learning_rate: Function from a step, counted from 0, to its learning rate.
        total_epochs: Epochs of the whole run.
        stream: Stream of the lines; None, where there is a progress bar, for none.
        first_step: Steps done before this process.
        first_epoch: Epochs done before this process. Rows of later epochs, left by a process that got further than
            its last checkpoint, are dropped.

    Raises:
        ValueError: If run_dir holds a `metrics.csv` of another kind.
    """

    def __init__(
        self, run_dir: Path, measures: Mapping[str, str], images_per_step: int, learning_rate: Callable[[int], Any],
        total_epochs: int, stream: TextIO | None, first_step: int = 0, first_epoch: int = 0,
    ):  # fmt: skip
        super().__init__()
        self._path, self._measures, self._stream = run_dir / "metrics.csv", measures, stream
        rows = metrics.read_rows(self._path) if self._path.exists() else []
        self._rows = [row for row in rows if (row["epoch"] or 0) <= first_epoch]
        self._images_per_step, self._learning_rate, self._total_epochs = images_per_step, learning_rate, total_epochs
        self._step = first_step
        names = {*metrics.FIRST, *measures, *metrics.LAST}
        # What an earlier process measured stays, even where this one does not measure it.
        more = [name for name in (self._rows[0] if self._rows else ()) if name not in names]
        self._columns = (*metrics.FIRST, *measures, *more, *metrics.LAST)
        self._clock = _StepClock()
        # The files of earlier processes may have epochs that the run did not keep.
        for old in (run_dir / "tensorboard").glob("events*"):
            old.unlink()
        self._writer = tf.summary.create_file_writer(str(run_dir / "tensorboard"))
        for row in self._rows:
            self._write_scalars(row)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._clock.start()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Counts the step."""
        self._step += 1
        self._clock.tick()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the epoch; raises FloatingPointError, and writes nothing, if a loss is not finite."""
        row = self._row(epoch + 1, logs or {})
        _check_finite(row)
        run_folder.require(self._path.parent)
        self._rows.append(row)
        metrics.write_rows(self._path, self._columns, self._rows)
        self._write_scalars(row)
        if self._stream:
            with contextlib.suppress(OSError):  # what reads it may be gone, just before a checkpoint
                print(_line(row, self._measures, self._total_epochs), file=self._stream, flush=True)

    def write_image(self, tag: str, image: np.ndarray) -> None:
        """Writes a picture of the run's beginning, uint8 (H, W, C) with C of 1 or 3, to TensorBoard."""
        with self._writer.as_default():
            tf.summary.image(tag, image[np.newaxis], step=0)
        self._writer.flush()

    def _row(self, epoch: int, logs: Mapping[str, Any]) -> metrics.Row:
        if "loss" not in logs:
            raise ValueError(f"The logs of an epoch need a loss. Received: {sorted(logs)}")
        rate = self._clock.steps_per_second()
        row = {name: scalar(logs[name]) if name in logs else None for name in self._measures}
        return row | {
            "epoch": epoch,
            "step": self._step,
            "learning_rate": scalar(self._learning_rate(max(self._step - 1 - self._not_taken(), 0))),
            "images_per_second": None if rate is None else round(rate * self._images_per_step, 1),
        }

    def _not_taken(self) -> int:
        """The steps that a loss scale left out; the schedule goes by the others."""
        optimizer = getattr(self.model, "optimizer", None)
        inner = getattr(optimizer, "inner_optimizer", None)
        return int(scalar(optimizer.iterations) - scalar(inner.iterations)) if optimizer and inner else 0

    def _write_scalars(self, row: metrics.Row) -> None:
        with self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name != "step" and value is not None:
                    tf.summary.scalar(name, value)
        # Now, not when a buffer is full: an epoch can take an hour, and a killed run should show what it did.
        self._writer.flush()


class _StepClock:
    """Measures steps a second, excluding what follows an epoch's last step, and its first one, which may compile.

    An epoch of a single step is measured if it is not the very first.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._begin = self._first = self._end = 0.0
        self._warm = False

    def start(self) -> None:
        self._warm, self._steps = self._warm or self._steps > 0, 0
        self._begin = time.perf_counter()

    def tick(self) -> None:
        self._end = time.perf_counter()
        self._steps += 1
        if self._steps == 1:
            self._first = self._end

    def steps_per_second(self) -> float | None:
        steps, seconds = self._steps, self._end - self._begin
        if steps > 1:
            steps, seconds = steps - 1, self._end - self._first
        elif not self._warm:
            return None
        return steps / seconds if steps and seconds > 0 else None


def scalar(value: Any) -> float:
    """The number in a number, or in an array or tensor that holds a single one."""
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"Expected a single number. Received: an array of shape {array.shape}")
    return float(array.item())


def _check_finite(row: metrics.Row) -> None:
    for name in ("loss", "val_loss"):
        value = row.get(name)
        if value is not None and not math.isfinite(value):
            raise FloatingPointError(
                f"The {name} is no longer finite at the end of epoch {row['epoch']} (step {row['step']}). Lower "
                f"`learning_rate` or raise `warmup_epochs`. Received: {name}={value}"
            )


def _line(row: metrics.Row, measures: Mapping[str, str], total_epochs: int) -> str:
    """One line for people; values that are missing are left out."""
    rates = {"learning_rate": "lr {:.3g}", "images_per_second": "{:.0f} images/s"}
    patterns = {"step": "step {}", **measures, **rates}
    parts = [f"epoch {row['epoch']:>{len(str(total_epochs))}}/{total_epochs}"]
    parts += [pattern.format(row[name]) for name, pattern in patterns.items() if row[name] is not None]
    return "  ".join(parts).replace("%", " %")
