"""Ends a run whose loss or gradient is no longer finite, and leaves a file that says where."""

import contextlib
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simclr_tf import files
from simclr_tf.data.damaged import tolerating
from simclr_tf.data.pipeline import Cuts, batch_indices, read_batch
from simclr_tf.data.source import Split, StreamImages
from simclr_tf.training.checkpoints import Position
from simclr_tf.training.epoch_log import scalar
from simclr_tf.training.run_folder import DIVERGED

SKIPPED = "skipped"  # what a model logs: the part of an epoch's steps that were not finite and made no update
ADVICE = "Lower `learning_rate` or raise `warmup_epochs`"


class Divergence(keras.callbacks.Callback):
    """Watches each step for a loss or gradient that is not finite. Put it before the callbacks that save.

    A model that logs `skipped`, the fraction of an epoch's steps that were not finite, makes no update in those steps. For
    any other model, only the loss is watched.

    Args:
        train: Images that are learned from.
        batch_size: Global batch size.
        seed: Seed of the order of the images.
        labels: Whether the model takes (images, labels).
        steps_per_epoch: Steps of an epoch.
        skip: Whether to go on without the step instead of ending the run.
        folder: Folder of the run; None on workers that write nothing.
        position: How far the run is.
        skipped: Steps of the epoch that were skipped so far.
        cuts: Boxes that were cut out of the original images, if any.
    """

    def __init__(
        self, train: Split, batch_size: int, seed: int, labels: bool, steps_per_epoch: int, skip: bool,
        folder: Path | None, position: Position, skipped: float = 0.0, cuts: Cuts | None = None,
    ):  # fmt: skip
        super().__init__()
        self._train, self._batch_size, self._seed, self._labels, self._cuts = train, batch_size, seed, labels, cuts
        self._steps, self._skip, self._folder = steps_per_epoch, skip, folder
        self._epoch, self._step, self._skipped = *position, round(skipped)

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the step; raises FloatingPointError if it was not finite."""
        logs = logs or {}
        self._step += 1
        if SKIPPED in logs:
            skipped = round(scalar(logs[SKIPPED]) * self._step)
            diverged, self._skipped = skipped > self._skipped, skipped
        else:
            diverged = not math.isfinite(scalar(logs.get("loss", 0.0)))
        if diverged and not (self._skip and SKIPPED in logs):
            self._end()

    def on_epoch_end(self, epoch, logs=None):
        """Reports how many steps were skipped; raises FloatingPointError if all of them were."""
        if self._skipped and self._folder:
            message = f"{self._skipped} of {self._step} steps had a loss or gradient that was not finite"
            print(f"warning  {message}, and were skipped", flush=True)
        if self._skipped == self._step > 0:
            self._end()
        self._epoch, self._step, self._skipped = epoch + 1, 0, 0

    @property
    def _done(self) -> int:
        return Position(self._epoch, self._step).total_steps(self._steps)

    def _end(self) -> None:
        where = f"step {self._done} (epoch {self._epoch + 1})"
        report = ""
        if self._folder:
            files.write_json(self._folder / DIVERGED, self._report())
            report = f"; the batch and the norms of all layers are in {self._folder / DIVERGED}"
        raise FloatingPointError(
            f"The loss or a gradient is no longer finite in {where}{report}. {ADVICE}. "
            "Received: `on_nan=" + ("skip`, and nothing but such steps" if self._skip else "stop`")
        )

    def _report(self) -> dict[str, Any]:
        step = self._done - 1  # counted from 0
        norms: dict[str, dict[str, Any]] = {
            variable.path: {"weight": _norm(variable.numpy())} for variable in self.model.trainable_variables
        }
        indices = loss = None
        if not isinstance(self._train.images, StreamImages):
            indices = batch_indices(len(self._train), self._batch_size, self._seed, self._epoch, self._step - 1)
            # No update was made, so the gradients can be computed again, provided that one device holds the whole batch.
            if hasattr(self.model, "gradients") and self.model.distribute_strategy.num_replicas_in_sync == 1:
                # Not compiled as the step was, they may take more memory than there is: then the report goes without.
                with contextlib.suppress(tf.errors.OpError, ValueError):
                    damaged = tolerating(self._train, lambda images: images)  # what the run tolerated
                    data = read_batch(self._train, indices, step, self._cuts, self._labels, damaged)
                    measured, gradients = self.model.gradients(data, tf.constant(step, tf.int64))
                    scale = float(getattr(self.model.optimizer, "dynamic_scale", 1.0))  # of the loss, in float16
                    loss = _plain(scalar(measured[0]))
                    for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
                        if gradient is not None:  # as of a weight that has no part in the loss
                            norms[variable.path]["gradient"] = _norm(np.asarray(gradient) / scale)
        advice = f"{ADVICE}; look at the images of the batch; compute with `precision=float32`."
        return {
            "step": step + 1, "epoch": self._epoch + 1, "loss": loss, "advice": advice.replace("`", ""),
            "batch": None if indices is None else indices.tolist(), "norms": norms,
        }  # fmt: skip


def _norm(tensor: Any) -> float | str:
    return _plain(float(np.linalg.norm(np.asarray(tensor, np.float64))))


def _plain(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(value)
