"""Splits -> tf.data streams of batches, uint8 images with or without their labels; nothing is augmented here.

Given a `tf.distribute.InputContext`, a stream is one worker's: it reads only the images of its own replicas, and its
batches are theirs in turn, with `batch_size / replicas` images each. Replica r of R has rows r B / R to (r + 1) B / R of
the global batch, whatever R is.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from simclr_tf.data.source import LOST, Order, Split

READ_AHEAD = 2  # batches


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    context: tf.distribute.InputContext | None = None,
    labels: bool = False,
) -> tf.data.Dataset:
    """Endless batches, every epoch in an order of its own.

    The order is a pure function of (seed, epoch): a run that resumes at epoch e sees the images in the order in which
    it would have seen them, and nothing has to be saved for that. An epoch has floor(N / batch_size) batches; the
    images left over are others in every epoch.

    Args:
        split: N images.
        batch_size: images a batch, at most N; over all devices.
        seed: any integer of 64 bits.
        first_epoch: the epoch to begin with, from 0.
        context: which worker's part to read; None for all.
        labels: yield (images, labels) instead of images; labels are int32 (batch_size,).

    Returns:
        Batches of uint8 (batch_size, H, W, C); with a context, (batch_size / replicas, H, W, C).

    Raises:
        ValueError: when the split has too few images for one batch or has no labels, or the batch does not divide by
            the replicas.
    """
    _check_batch_size(batch_size)
    steps = len(split) // batch_size
    if steps == 0:
        raise ValueError(
            f"A batch of {batch_size} images needs at least as many training images: take a smaller `batch_size` "
            f"or more images. Received: {len(split)} images"
        )

    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        # Philox by name: what is chosen automatically depends on the device.
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(split), dtype=tf.int64),
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
            alg="philox",
        )
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: steps * batch_size], (steps, batch_size)))

    def epoch_stream(epoch: tf.Tensor) -> tf.data.Dataset:
        return _streamed(split, (seed, epoch), batch_size, labels).take(steps)

    epochs = tf.data.Dataset.counter(first_epoch)
    batches = epochs.flat_map(epoch_indices if split.images.random_access else epoch_stream)
    # flat_map hides it, and without it Keras would count an epoch by running into the end of the data.
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return _read_batches(split, _own(batches, batch_size, context), labels)


def ordered_batches(
    split: Split,
    batch_size: int,
    drop_remainder: bool = False,
    context: tf.distribute.InputContext | None = None,
    labels: bool = False,
) -> tf.data.Dataset:
    """The images once, in their order.

    Args:
        split: N images.
        batch_size: images a batch.
        drop_remainder: leave out the images after the last full batch, and so make the batch's shape static.
        context: which worker's part to read; None for all. Needs `drop_remainder`.
        labels: yield (images, labels) instead of images; labels are int32 (B,).

    Returns:
        Batches of uint8 (B, H, W, C); with a context, (batch_size / replicas, H, W, C), over and over: of a stream that
        ends, TensorFlow hides the static shape from several workers, in case one of them ends earlier.

    Raises:
        ValueError: when `drop_remainder` would leave nothing, or the batch does not divide by the replicas.
    """
    _check_batch_size(batch_size)
    if drop_remainder and len(split) < batch_size:
        raise ValueError(
            f"A full batch of {batch_size} images needs at least as many images: take a smaller `batch_size` "
            f"or more images. Received: {len(split)} images"
        )
    if split.images.random_access:
        batches = tf.data.Dataset.range(len(split)).batch(batch_size, drop_remainder=drop_remainder)
    else:
        batches = _streamed(split, None, batch_size, labels, drop_remainder)
    batches = _read_batches(split, _own(batches, batch_size, context), labels)
    return batches if context is None else batches.repeat()


def _streamed(
    split: Split, order: Order | None, batch_size: int, labels: bool, drop_remainder: bool = True
) -> tf.data.Dataset:
    """Batches of a source that can only be streamed; every worker reads all of it."""
    stream = split.images.stream(order)
    labelled = isinstance(stream.element_spec, tuple)
    if labels and not labelled:
        raise ValueError("Labels were asked for. Received: a stream of images without labels")
    if labelled and not labels:
        stream = stream.map(lambda image, _: image)
    return stream.batch(batch_size, drop_remainder=drop_remainder)


def _own(batches: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
    """(batch_size, ...) -> what the replicas of one worker have of it, one after the other."""
    if context is None:
        return batches
    workers, replicas = context.num_input_pipelines, context.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(f"The batch must divide by the {replicas} replicas. Received: {batch_size}")
    shape = (workers, replicas // workers, batch_size // replicas)

    def own(*parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        mine = tuple(tf.reshape(rows, (*shape, *rows.shape[1:]))[context.input_pipeline_id] for rows in parts)
        return mine if len(mine) > 1 else mine[0]

    return batches.map(own).unbatch()


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: {batch_size}")


def _read_batches(split: Split, batches: tf.data.Dataset, labels: bool) -> tf.data.Dataset:
    """Indices, int64 (B,), or what was streamed already -> batches, read ahead and in order.

    One batch at a time: a source that has files to decode uses all cores for each.
    """
    if split.images.random_access:
        batches = batches.map(_reader(split, labels))
    options = tf.data.Options()
    options.deterministic = True
    # Nothing here is left to tune, and the thread that tunes sleeps for up to a minute when its iterator should end:
    # each validation would wait for it.
    options.autotune.enabled = False
    # A stream that a worker should share is given a context; TensorFlow's own sharding would read all and drop most.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).prefetch(READ_AHEAD)


def _reader(split: Split, labels: bool) -> Callable[[tf.Tensor], Any]:
    """Int64 (B,) -> images, or images and labels."""
    if not labels:
        return split.read
    if split.labels is None:
        raise ValueError("Labels were asked for. Received: images without labels")
    with tf.init_scope(), tf.device("CPU:0"):
        known = tf.constant(split.labels)
    return lambda indices: (split.read(indices), tf.gather(known, indices))


@contextlib.contextmanager
def naming_lost_images() -> Iterator[None]:
    """Reduces TensorFlow's report that a source could not read an image to the sentence of the source.

    Raises:
        ValueError: In place of that report; every other error passes.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lost = re.search(f"{LOST}.*", str(error))
        if not lost:
            raise
        raise ValueError(lost[0]) from error
