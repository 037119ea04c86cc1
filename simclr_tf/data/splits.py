"""Parts of a split: those held out, and those to learn from, each chosen by a seed."""

import numpy as np

from simclr_tf.config import Data
from simclr_tf.data.source import Split

TEST_FRACTION = 0.2


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Sets a part of a split aside, every class in proportion.

    Class counts are rounded by largest remainders, of equal ones those that the seed chooses, so that the part held out
    has the requested size. The last image of a class is held out only if nothing else is left.

    Args:
        split: At least 2 images.
        fraction: Part to hold out, above 0 and below 1; at least one image, and never all.
        seed: Seed of the random choice.

    Returns:
        (kept, held), both in the order of `split`.

    Raises:
        ValueError: If the fraction is outside that range, there are fewer than 2 images, or they can only be streamed.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The fraction to hold out must be above 0 and below 1. Received: {fraction}")
    if len(split) < 2:
        raise ValueError(f"Holding images out takes at least 2 of them. Received: {len(split)}")
    rng = _random(seed)
    labels = np.zeros(len(split), np.int32) if split.labels is None else split.labels
    classes, sizes = np.unique(labels, return_counts=True)
    held = np.zeros(len(split), bool)
    for label, count in zip(classes, _held_counts(sizes, fraction, _random(seed)), strict=True):
        held[rng.permutation(np.flatnonzero(labels == label))[:count]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def learned_from(split: Split, settings: Data, seed: int) -> tuple[Split, Split | None]:
    """The images that a run with these settings learns from, and those that it holds out for the validation loss, if any.

    The latter are `mixed`.

    Args:
        split: Training images of the data set.
        settings: `validation_fraction` and `train_fraction`.
        seed: Seed of the run.

    Raises:
        ValueError: If the images can only be streamed.
    """
    validation = None
    if settings.validation_fraction:
        split, validation = hold_out(split, settings.validation_fraction, seed)
        validation = mixed(validation, seed)
    if settings.train_fraction < 1:
        split = part_of(split, settings.train_fraction, seed)
    return split, validation


def mixed(split: Split, seed: int) -> Split:
    """The split in a random order: a folder's is by class, and a loss over batches of one class is another loss."""
    return split.take(_random(seed).permutation(len(split)))


def hold_out_test(split: Split) -> tuple[Split, Split]:
    """Sets a fifth of every class aside as test images, always the same; (kept, held), both in the order of `split`."""
    # Fixed: with the run's seed, an evaluation with another seed would test on images that were trained on.
    return hold_out(split, TEST_FRACTION, 0)


def part_of(split: Split, fraction: float, seed: int) -> Split:
    """A random part of a split, whatever its labels; with the same seed, a smaller part is contained in a larger one.

    Args:
        split: N images.
        fraction: Part to take, above 0 and at most 1; one image at least.
        seed: Seed of the random choice.

    Returns:
        The part, in the order of `split`.

    Raises:
        ValueError: If the images can only be streamed.
    """
    order = _random(seed).permutation(len(split))
    return split.take(np.sort(order[: max(1, round(fraction * len(split)))]))


def labeled_part(split: Split, fraction: float, seed: int) -> Split:
    """A part of a split with equally many images of each class: what a method may learn from when labels are few.

    With the same split and seed, a smaller part is contained in a larger one. A class with fewer images contributes all
    that it has.

    Args:
        split: N labeled images.
        fraction: Part to take, above 0 and at most 1; each class contributes `fraction` * N / (number of classes) images.
        seed: Seed of the random choice.

    Returns:
        The part, in the order of `split`.

    Raises:
        ValueError: If that is less than an image of each class, or the split has no labels or can only be streamed.
    """
    if split.labels is None:
        raise ValueError("A part with equally many images of each class needs labels. Received: images without labels")
    classes = np.unique(split.labels)
    count = round(fraction * len(split) / len(classes))
    if not 0 < fraction <= 1 or count < 1:
        raise ValueError(
            f"`label_fraction` must be at most 1 and leave an image of each of the {len(classes)} classes, of {len(split)} "
            f"images. Received: `label_fraction={fraction:g}`"
        )
    if fraction == 1:
        return split
    rng = _random(seed)
    chosen = [rng.permutation(np.flatnonzero(split.labels == label))[:count] for label in classes]
    return split.take(np.sort(np.concatenate(chosen)))


def _held_counts(sizes: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """How many images of each class to hold out, by largest remainders; together `fraction` of all images."""
    total = int(np.clip(round(fraction * sizes.sum()), 1, sizes.sum() - 1))
    counts = np.floor(fraction * sizes).astype(int)
    remainders = fraction * sizes - counts
    would_empty = counts + 1 >= sizes
    order = np.lexsort((rng.permutation(len(sizes)), -remainders, would_empty))  # ties by chance, not by name
    counts[order[: total - counts.sum()]] += 1
    return counts


def _random(seed: int) -> np.random.RandomState:
    # Its stream never changes: after an upgrade of NumPy, an image that was trained on must not turn up among those held
    # out.
    return np.random.RandomState(seed % 2**32)
