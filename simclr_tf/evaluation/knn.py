"""The k-nearest-neighbors probe: nothing is learned, only the geometry of the features counts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclr_tf.config import Config, Knn
from simclr_tf.evaluation.probe import Features, Result, judge
from simclr_tf.evaluation.probing import judge_run

TEMPERATURE = 0.07
BLOCK = 2**24  # similarities in memory at a time: 64 MiB; does not change the result


def run(run_dir: Path, config: Config, settings: Knn) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    return judge_run("knn", partial(knn_probe, k=settings.k), run_dir, config, settings)


def knn_probe(features: Features, k: int = Knn.k) -> Result:
    """Test accuracy of a weighted vote of the nearest training images (Wu et al., 2018, section 3.4).

    The score of class c for an image is, with s_i the cosine similarity of its features to those of image i,

        sum over its k nearest i with y_i = c of exp(s_i / tau).

    As https://arxiv.org/abs/1805.01978 with its tau of 0.07, and k = 20 rather than 200, which suits sets of thousands
    of images. Nothing is tuned, so neighbors come from the training and validation splits together, the images that the
    linear probe learns from. Classes without a vote score 0 and rank by number in the top 5.

    Args:
        features: Features of the three splits.
        k: Number of neighbors that vote; all of them where there are fewer.

    Returns:
        Accuracy on the test split. Hyperparameters: `k`, `temperature`.
    """
    bank = features.train_and_validation()
    k = min(k, len(bank))
    test = features.test.features
    scores = vote(test, bank.features, bank.labels, features.num_classes, k=k, temperature=TEMPERATURE)
    return judge(scores, features.test.labels, len(bank), {"k": k, "temperature": TEMPERATURE})


def vote(
    queries: np.ndarray, bank: np.ndarray, labels: np.ndarray, num_classes: int, *, k: int, temperature: float
) -> np.ndarray:
    """Votes of the k nearest rows of `bank` for the class of each query.

    Args:
        queries: float (M, D).
        bank: float (N, D).
        labels: int (N,), the classes of `bank`.
        num_classes: Number of classes.
        k: Number of neighbors that vote, at most N.
        temperature: tau; the smaller it is, the more the nearest neighbors count.

    Returns:
        float64 (M, num_classes).

    Raises:
        ValueError: If k is not in 1 .. N, or the temperature not above 0.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must be in 1 .. {len(bank)}, the rows to choose from. Received: {k}")
    if temperature <= 0:
        raise ValueError(f"The temperature must be greater than 0. Received: {temperature}")
    queries, bank = _normalized(queries), _normalized(bank)
    scores, rows = np.zeros((len(queries), num_classes)), max(1, BLOCK // len(bank))
    for start in range(0, len(queries), rows):
        similarities = queries[start : start + rows] @ bank.T  # (m, N)
        nearest = np.argpartition(similarities, -k, axis=1)[:, -k:]  # (m, k), in no order
        weights = np.exp(np.take_along_axis(similarities, nearest, axis=1).astype(np.float64) / temperature)
        at = start + np.arange(len(similarities))
        np.add.at(scores, (at[:, None], labels[nearest]), weights)
    return scores


def _normalized(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros (every unit dead) stays as it is, with similarity 0 to every other."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
