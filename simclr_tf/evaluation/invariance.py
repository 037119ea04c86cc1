"""What h keeps and g(h) loses: classifiers that tell which transformation an image went through (paper, table 3)."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from simclr_tf import encoders, files
from simclr_tf.augment import GaussianNoise, RandomGrayscale, SobelFilter, TwoViews
from simclr_tf.config import Config, Invariance
from simclr_tf.data.pipeline import ordered_batches
from simclr_tf.data.source import Split
from simclr_tf.evaluation.features import represent
from simclr_tf.evaluation.probing import open_data, place
from simclr_tf.places import data_source, results_folder
from simclr_tf.progress import progress
from simclr_tf.training import checkpoints

IMAGES = 10_000  # to learn from, at most
FEWEST = 40  # of which a tenth stops the classifier, and has to hold all four rotations
EPOCHS, PATIENCE = 200, 10  # at most; without a better accuracy on the rows set aside
BATCH = 256

Transform = Callable[[tf.Tensor, int], tf.Tensor]  # of uint8 images (B, H, W, C) and a step: float images


def _turned(images: tf.Tensor, step: int, quarters: int = 0) -> tf.Tensor:
    return tf.image.rot90(tf.cast(images, tf.float32) / 255.0, quarters)


def questions() -> dict[str, list[tuple[float, Transform]]]:
    """What to predict: the kinds of images, each with its part of all and how it is made."""
    gray, noisy, sobel = (TwoViews([layer]).first for layer in (RandomGrayscale(1.0), GaussianNoise(), SobelFilter()))
    return {
        "color or gray": [(0.8, _turned), (0.2, gray)],  # as often as the paper's augmentation does
        "rotation": [(0.25, partial(_turned, quarters=quarters)) for quarters in range(4)],
        "original or noisy": [(0.5, _turned), (0.5, noisy)],
        "original or Sobel filtered": [(0.5, _turned), (0.5, sobel)],
    }


def run(run_dir: Path, config: Config, settings: Invariance) -> dict[str, Any]:
    """Trains a classifier with a hidden layer for each question, on h and on g(h), and judges it on the test images.

    It needs no labels; without test images, a fifth of the others is set aside.

    Returns:
        The record, also written to `invariance.json`: `dataset`, `data_dir`, `encoder_digest`, and for each question
        `guess`, `h` and `g(h)`, fractions.

    Raises:
        ValueError: If the run has no projection head, or the data does not fit the encoder.
    """
    if config.network.projection == "none":
        raise ValueError("`mode=invariance` compares h with g(h). Received: a run with `projection=none`")
    name, data_dir = data_source(settings, config.data)
    saved = checkpoints.loaded(run_dir / "checkpoints")
    encoder = encoders.load_encoder(run_dir, saved=saved)
    head = encoders.load_head(run_dir, encoder.output_shape[-1], saved)
    dataset = open_data(name, data_dir, config, run_dir)
    everything = dataset.train.take(np.random.default_rng(0).permutation(len(dataset.train)))
    cut = len(everything) if dataset.test else len(everything) * 4 // 5
    train = everything.take(np.arange(min(cut, IMAGES)))
    test = dataset.test or everything.take(np.arange(cut, len(everything)))
    if len(train) < FEWEST:
        raise ValueError(f"`mode=invariance` learns from at least {FEWEST} images. Received: {len(train)}")
    record: dict[str, Any] = {"mode": "invariance", "dataset": name, "data_dir": place(data_dir),
                              "encoder_digest": encoders.weights_digest(encoder), "questions": {}}  # fmt: skip
    for question, kinds in questions().items():
        row = {"guess": max(part for part, _ in kinds)}
        (h, learned), (test_h, judged) = (
            transformed(encoder, split, kinds, seed) for seed, split in enumerate((train, test))
        )
        row["h"] = accuracy(h, learned, test_h, judged)
        row["g(h)"] = accuracy(np.asarray(head(h)), learned, np.asarray(head(test_h)), judged)
        record["questions"][question] = row
        print(f"{question}: h {row['h']:.1%}, g(h) {row['g(h)']:.1%}", flush=True)
    path = results_folder(run_dir, 0, (name, data_dir), config.data) / "invariance.json"
    files.write_json(path, record)
    Console().print(_table(record["questions"]))
    print(path)
    return record


def transformed(model: keras.Model, split: Split, kinds, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Representations (N, D) of a split's images, each made one of the kinds by chance, and which kind, int (N,)."""
    parts = [part for part, _ in kinds]
    labels = np.random.default_rng(seed).choice(len(kinds), len(split), p=parts)
    features = []
    batches = progress(ordered_batches(split, BATCH), "transforming images", math.ceil(len(split) / BATCH))
    for step, images in enumerate(batches):
        chosen = labels[step * BATCH : step * BATCH + len(images)]
        own = step + 2**20 * seed  # noise is a function of it: test images must not have that of training images
        made = tf.stack([make(images, own) for _, make in kinds])  # (kinds, B, H, W, C)
        features.append(represent(model, tf.gather_nd(made, np.stack([chosen, np.arange(len(chosen))], axis=1))))
    return np.concatenate([h.numpy() for h in features]), labels


def accuracy(rows: np.ndarray, labels: np.ndarray, test_rows: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of a network with one hidden layer, as wide as the rows; early stopping uses a tenth of them.

    Args:
        rows: Representations to learn from, float (N, D).
        labels: Which kind each is, int (N,).
        test_rows: Those to judge by, float (M, D).
        test_labels: Which kind each of these is, int (M,).
    """
    scaler = StandardScaler().fit(rows)
    model = MLPClassifier(
        (rows.shape[1],),
        learning_rate_init=0.003,
        max_iter=EPOCHS,
        early_stopping=True,
        n_iter_no_change=PATIENCE,
        tol=0.0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more epochs would be of little use
        model.fit(scaler.transform(rows), labels)
    return float(model.score(scaler.transform(test_rows), test_labels))


def _table(questions: dict[str, dict[str, float]]) -> Table:
    table = Table(title="What tells the transformation, in %")
    for number, heading in enumerate(("predict", "guess", "h", "g(h)", "paper: h", "paper: g(h)")):
        table.add_column(heading, justify="right" if number else "left")
    for question, row in questions.items():
        ours = [f"{100 * row[key]:.1f}" for key in ("guess", "h", "g(h)")]
        table.add_row(question, *ours, *map(str, Invariance.paper[question][1:]))
    return table
