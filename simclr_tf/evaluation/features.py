"""Frozen features of a split or of image files, and the digest of the encoder that made them."""

import contextlib
import functools
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.augment.base import to_float
from simclr_tf.data.folder import decoded
from simclr_tf.data.pipeline import naming_lost_images, ordered_batches
from simclr_tf.data.source import Split
from simclr_tf.encoders import weights_digest
from simclr_tf.files import replacing
from simclr_tf.networks.folding import folded
from simclr_tf.progress import progress

VERSION = 1  # of kept features: another one where the same images would be read differently


@tf.function
def represent(encoder: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Images (B, H, W, C), uint8 or float in [0, 1] -> h = f(x), float32 (B, D), with batch norm's moving statistics.

    One function serves all encoders: TensorFlow keys its traces by encoder and shape, so that the three splits of a
    data set share one graph.
    """
    return tf.cast(encoder(to_float(images), training=False), tf.float32)


@functools.lru_cache(maxsize=1)
def _for_inference(encoder: keras.Model, weights: str) -> keras.Model:
    """The encoder with its batch norms folded, once for as long as its weights stay the same."""
    return folded(encoder)


def extract(encoder: keras.Model, split: Split, batch_size: int = 256) -> np.ndarray:
    """Features of every image of a split, in its order.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D); not changed.
        split: N uint8 images.
        batch_size: Images per step.

    Returns:
        float32 (N, D).

    Raises:
        ValueError: If the encoder takes images of another shape, or an image can no longer be read.
    """
    return np.concatenate(list(extract_batches(encoder, split, batch_size)))


def extract_batches(encoder: keras.Model, split: Split, batch_size: int = 256) -> Iterator[np.ndarray]:
    """What `extract` returns, batch by batch: memory does not grow with the number of images."""
    expected = encoder.input_shape[1:]
    if any(side not in (None, size) for side, size in zip(expected, split.image_shape, strict=True)):
        raise ValueError(f"The encoder takes images of shape {expected}. Received: {split.image_shape}")
    encoder = _for_inference(encoder, weights_digest(encoder))
    batches = ordered_batches(split, batch_size)
    with naming_lost_images():
        for images in progress(batches, "extracting features", math.ceil(len(split) / batch_size)):
            # A short last batch would be a second shape, and so a second graph, for a few images.
            padded = tf.pad(images, [[0, batch_size - images.shape[0]], [0, 0], [0, 0], [0, 0]])
            yield represent(encoder, padded).numpy()[: images.shape[0]]


def extract_once(encoder: keras.Model, split: Split, folder: Path) -> np.ndarray:
    """`extract`, kept in a folder: a second mode that asks for the same features reads them.

    The file is named after the digests of weights and images, so it cannot be taken for that of another encoder; those of
    other weights are deleted. A damaged file is made again.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D).
        split: N uint8 images.
        folder: Folder of the features of one run and layer.

    Returns:
        float32 (N, D).
    """
    weights = weights_digest(encoder)[:16]
    path = folder / f"{weights}-{split.images.stamp()[:16]}-v{VERSION}.npy"
    if path.exists():
        try:
            kept = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            kept = np.empty(0)
        if kept.shape == (len(split), encoder.output_shape[-1]) and kept.dtype == np.float32:
            return kept
    features = extract(encoder, split)
    with contextlib.suppress(OSError):  # on a full disk or in someone else's run, they serve without being kept
        with replacing(path) as file:
            np.save(file, features)
        for other in set(folder.glob("*.npy")) - set(folder.glob(f"{weights}-*.npy")):
            other.unlink(missing_ok=True)
    return features


def extract_files(
    encoder: keras.Model, paths: Sequence[str], max_bad_files: int, batch_size: int = 256
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Features of image files, batch by batch: memory does not grow with their number.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D); not changed.
        paths: Files, each read as a folder's images are.
        max_bad_files: How many unreadable files to skip, each with a line on standard error.
        batch_size: Files a step.

    Yields:
        Files, and their features, float32 (m, D).

    Raises:
        ValueError: If more files, or all of them, are unreadable.
    """
    bad: list[str] = []
    parts = decoded(paths, encoder.input_shape[1], batch_size)
    encoder = _for_inference(encoder, weights_digest(encoder))
    for files, images, faults in progress(parts, "extracting features", math.ceil(len(paths) / batch_size)):
        bad += faults
        if len(bad) > max_bad_files:
            raise ValueError(
                f"More than `max_bad_files={max_bad_files}` cannot be read. Received: {'; '.join(bad[:10])}"
            )
        for fault in faults:
            print(f"skipped  {fault}", file=sys.stderr)
        if len(bad) == len(paths):
            raise ValueError(f"None of the image files can be read. Received: {'; '.join(bad[:10])}")
        if not files:
            continue
        padded = np.pad(images, [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)])
        yield files, represent(encoder, tf.constant(padded)).numpy()[: len(files)]
