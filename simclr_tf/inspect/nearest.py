"""The nearest of many rows by cosine similarity, and their votes."""

import importlib.util
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from simclr_tf.inspect.geometry import unit

TEMPERATURE = 0.07
BLOCK = 2**24  # similarities in memory at a time: 64 MiB; does not change the result


def vote(
    queries: np.ndarray,
    bank: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    ks: Sequence[int],
    temperature: float = TEMPERATURE,
) -> dict[int, np.ndarray]:
    """Votes of the k nearest rows of `bank` for the class of each query, for one or several k.

    Args:
        queries: float (M, D).
        bank: float (N, D).
        labels: int (N,), the classes of `bank`.
        num_classes: Number of classes.
        ks: Numbers of neighbors that vote, at most N.
        temperature: tau; the smaller it is, the more the nearest neighbors count.

    Returns:
        float64 (M, num_classes) for each k.

    Raises:
        ValueError: If a k is not in 1 .. N, or the temperature not above 0.
    """
    if not all(1 <= k <= len(bank) for k in ks):
        raise ValueError(f"k must be in 1 .. {len(bank)}, the rows to choose from. Received: {', '.join(map(str, ks))}")
    if temperature <= 0:
        raise ValueError(f"The temperature must be greater than 0. Received: {temperature}")
    scores = {k: np.zeros((len(queries), num_classes)) for k in ks}
    for start, similarities, rows in nearest(queries, bank, max(ks)):
        weights = np.exp(similarities.astype(np.float64) / temperature)
        at = start + np.arange(len(rows))
        for k in ks:
            np.add.at(scores[k], (at[:, None], labels[rows[:, :k]]), weights[:, :k])
    return scores


def nearest(queries: np.ndarray, bank: np.ndarray, k: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The k rows of `bank` that are most similar to each query by cosine, exactly, in blocks of queries.

    faiss does it where it is installed (`pip install faiss-cpu`), else NumPy.

    Args:
        queries: float (M, D).
        bank: float (N, D).
        k: Number of rows, at most N.

    Yields:
        The number of the block's first query; similarities, float (m, k), in falling order; rows, int (m, k).
    """
    bank = unit(bank)
    search = _faiss(bank) if importlib.util.find_spec("faiss") else partial(_nearest, bank)
    rows = max(1, BLOCK // len(bank))
    for start in range(0, len(queries), rows):
        yield start, *search(unit(queries[start : start + rows]), k)


def _nearest(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    similarities = queries @ bank.T  # (m, N)
    found = np.argpartition(similarities, -k, axis=1)[:, -k:]  # (m, k), in no order
    values = np.take_along_axis(similarities, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(found, order, axis=1)


def _faiss(bank: np.ndarray):
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.astype(np.float32, copy=False))
    return lambda queries, k: index.search(queries.astype(np.float32, copy=False), k)
