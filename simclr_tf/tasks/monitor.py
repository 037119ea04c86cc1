"""Measures the representations while they are learned: is it working, and does it still?"""

import json
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simclr_tf import files
from simclr_tf.augment import VALIDATION_STEP
from simclr_tf.augment.base import to_float
from simclr_tf.data.damaged import tolerating
from simclr_tf.data.pipeline import Cuts, one_batch, ordered_batches
from simclr_tf.data.source import Split
from simclr_tf.inspect.geometry import Geometry
from simclr_tf.inspect.nearest import vote

MEASURES = {
    "knn": "kNN {:.1%}",
    "rank": "rank {:.1f}",
    "alignment": "alignment {:.3f}",
    "uniformity": "uniformity {:.2f}",
}

IMAGES, BANK = 500, 5000  # at most: images that are measured, and training images that vote on them
NEIGHBORS = 20
BATCH = 250


class Monitor(keras.callbacks.Callback):
    """Adds measures of the frozen encoder to the logs of every few epochs.

    `knn` is the accuracy of a vote of the nearest training images, where there are labels; `rank`, `alignment` and
    `uniformity` are those of `inspect.geometry`. Put it before the callback that logs. The numbers at the weights
    with which monitoring began are kept in `monitor.json`, because collapse is told by comparison with them.

    Args:
        watched: Images that are not learned from, or some that are.
        train: Images that are learned from.
        every: Epochs between two measurements.
        stop: Whether a collapse ends the run, instead of being printed.
        temperature: Temperature of the contrastive accuracy.
        folder: Folder of the run.
        cuts: Boxes to cut out of the original images, if that is what the model learns from.
        bad_files: How many of so many images may be damaged, and replaced by others; by default none.
    """

    def __init__(
        self, watched: Split, train: Split, every: int, stop: bool, temperature: float, folder: Path,
        cuts: Cuts | None = None, bad_files: Callable[[int], int] = lambda images: 0,
    ):  # fmt: skip
        super().__init__()
        rng = np.random.default_rng(0)
        self._watched = watched.take(np.sort(rng.permutation(len(watched))[:IMAGES]))
        self._bank = train.take(np.sort(rng.permutation(len(train))[:BANK]))
        self._every, self._stop, self._temperature = every, stop, temperature
        self._folder, self._first = folder, folder / "monitor.json"
        # Made once: TensorFlow keeps the kernels of each dataset that was ever made, some 100 KiB.
        damaged, known = (tolerating(split, bad_files) for split in (self._watched, self._bank))
        self._queries = ordered_batches(self._watched, BATCH, damaged=damaged)
        self._known = ordered_batches(self._bank, BATCH, damaged=known)
        count, self._parts = len(self._watched), []
        for number, start in enumerate(range(0, count, BATCH)):
            step, part = VALIDATION_STEP - number, np.arange(start, min(start + BATCH, count))
            self._parts.append((step, one_batch(self._watched, part, step, cuts, damaged=damaged)))

    def on_train_begin(self, logs=None):
        """Measures the weights, once in a run."""
        if not self._first.exists():
            found = self._geometry(self._representations(self._queries))
            files.write_json(self._first, {"rank": found.rank, "spread": found.spread})

    def on_epoch_end(self, epoch: int, logs: MutableMapping[str, Any] | None = None):
        """Measures every few epochs; raises FloatingPointError on a collapse that should end the run."""
        if (epoch + 1) % self._every or logs is None:
            return
        h = self._representations(self._queries)
        found = self._geometry(h)
        logs.update(rank=found.rank, alignment=found.alignment, uniformity=found.uniformity)
        if self._bank.labels is not None and self._watched.labels is not None:
            logs["knn"] = self._knn(h, self._watched.labels, self._bank.labels)
        first = json.loads(self._first.read_text())
        if found.accuracy < 0.05 and found.narrower_than(**first):
            message = (
                f"The projections have collapsed to nearly one (spread {found.spread:.3f}, rank {found.rank:.1f} of "
                f"{found.dimensions}) at the end of epoch {epoch + 1}. Lower `learning_rate` or raise `warmup_epochs`"
            )
            if self._stop:
                raise FloatingPointError(f"{message}. Received: `on_collapse=stop`")
            print(f"warning  {message.replace('`', '')}", flush=True)

    def on_train_end(self, logs=None):
        """Writes the representations for TensorBoard's projector."""
        h, folder = self._representations(self._queries), self._folder / "tensorboard"
        files.write_text(folder / "h.tsv", "".join("\t".join(f"{value:.5g}" for value in row) + "\n" for row in h))
        config = 'embeddings {\n  tensor_name: "h"\n  tensor_path: "h.tsv"\n'
        if self._watched.labels is not None:
            files.write_text(folder / "labels.tsv", "".join(f"{label}\n" for label in self._watched.labels))
            config += '  metadata_path: "labels.tsv"\n'
        files.write_text(folder / "projector_config.pbtxt", config + "}\n")

    def _geometry(self, h: np.ndarray) -> Geometry:
        first: list[np.ndarray] = []
        second: list[np.ndarray] = []
        for step, images in self._parts:
            views = self.model.views(images.get_single_element(), step)
            for rows, z in zip((first, second), tf.split(self.model(views, training=False), 2), strict=True):
                rows.append(tf.cast(z, tf.float32).numpy())
        return Geometry.of(h, np.concatenate(first), np.concatenate(second), self._temperature)

    def _representations(self, batches: tf.data.Dataset) -> np.ndarray:
        parts = [self.model.encoder(to_float(images), training=False) for images in batches]
        return np.concatenate([tf.cast(part, tf.float32).numpy() for part in parts])

    def _knn(self, queries: np.ndarray, asked: np.ndarray, known: np.ndarray) -> float:
        bank = self._representations(self._known)
        classes, k = int(max(known.max(), asked.max())) + 1, min(NEIGHBORS, len(bank))
        votes = vote(queries, bank, known, classes, ks=[k])[k]
        return float((votes.argmax(axis=1) == asked).mean())
