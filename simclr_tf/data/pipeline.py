"""Splits -> tf.data streams of batches, uint8 images with or without their labels; nothing is augmented here.

Given a `tf.distribute.InputContext`, a stream is one worker's: it has only the images of that worker's replicas, in
batches of `batch_size / replicas`, one replica after another. Replica r of R has rows r B / R to (r + 1) B / R of the
global batch, whatever R is.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from simclr_tf.data import decode
from simclr_tf.data.damaged import Damaged
from simclr_tf.data.source import LOST, EncodedImages, Order, Split, StreamImages, in_parallel, on_cpu

READ_AHEAD = 2  # batches
SUBSTITUTES = 8  # images that may take the place of one that cannot be decoded: those after it


class Cuts(Protocol):
    """The boxes to cut out of images, for V views of each."""

    @property
    def views(self) -> int:
        """How many boxes there are for an image, V."""

    @property
    def validation_step(self) -> int:
        """The step whose boxes are those of validation."""

    def draws(self, step: tf.Tensor | int, count: int) -> tf.Tensor:
        """What decides about the boxes of a global batch in a step, float32 (count, V, K)."""

    def boxes(self, draws: tf.Tensor, shapes: tf.Tensor) -> tf.Tensor:
        """Float32 (..., V, K), and heights and widths, int32 (..., 2) -> `top`, `left`, `height`, `width`, (..., V, 4)."""


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    context: tf.distribute.InputContext | None = None,
    labels: bool = False,
    cuts: Cuts | None = None,
    damaged: Damaged | None = None,
) -> tf.data.Dataset:
    """Endless batches, every epoch in an order of its own.

    The order is a pure function of (seed, epoch): a run that resumes at epoch e sees the images in the order in which
    it would have seen them, and nothing has to be saved for that. An epoch has floor(N / batch_size) batches; which
    images are left over changes from epoch to epoch.

    Args:
        split: N images.
        batch_size: Images per batch over all devices, at most N.
        seed: Seed of the orders, any integer of 64 bits.
        first_epoch: Epoch to begin with, from 0.
        first_step: Batches of that epoch to leave out. They are not read, except by a stream, which has to.
        context: Worker whose part to read; None for everything.
        labels: Whether to yield (images, labels) instead of images.
        cuts: Boxes to cut out of the original images, if the split has encoded ones.
        damaged: What to do about images that cannot be decoded; None lets no other take their place.

    Returns:
        Batches of uint8 (batch_size, H, W, C), or (batch_size, V, H, W, C) with `cuts`, and labels int32 (batch_size,);
        with a context, of batch_size / replicas rows.

    Raises:
        ValueError: If the split has too few images for one batch or lacks the labels asked for, or the batch does not
            divide by the replicas.
    """
    _check(split, batch_size, labels)
    steps = len(split) // batch_size
    if steps == 0:
        raise ValueError(
            f"A batch of {batch_size} images needs at least as many training images: take a smaller `batch_size` "
            f"or more images. Received: {len(split)} images"
        )
    images = split.images

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        done = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_step, tf.int64), 0)
        if isinstance(images, StreamImages):
            return _stream(images, (seed, epoch), labels).batch(batch_size, drop_remainder=True).skip(done)
        order = _order(len(images), batch_size, seed, epoch)
        if cuts is None:
            return tf.data.Dataset.from_tensor_slices(order[done:])
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        rows = tf.data.Dataset.from_tensor_slices((order[done:], numbers[done:]))
        return rows.map(lambda indices, step: (indices, cuts.draws(step, batch_size)))

    batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch_batches)
    # flat_map hides it, and without it Keras would count an epoch by running into the end of the data.
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return _read(split, _share(batches, batch_size, context), labels, cuts, damaged)


def batch_indices(count: int, batch_size: int, seed: int, epoch: int, step: int) -> np.ndarray:
    """The indices of the images of one batch of `training_batches`, int64 (batch_size,); epoch and step from 0."""
    return _order(count, batch_size, seed, tf.constant(epoch, tf.int64))[step].numpy()


def _order(count: int, batch_size: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The images of each batch of an epoch, int64 (steps, batch_size)."""
    steps = count // batch_size
    # Philox by name: what is chosen automatically depends on the device.
    order = tf.random.experimental.stateless_shuffle(
        tf.range(count, dtype=tf.int64), tf.stack([tf.constant(seed, tf.int64), epoch]), alg="philox"
    )
    return tf.reshape(order[: steps * batch_size], (steps, batch_size))


def ordered_batches(
    split: Split,
    batch_size: int,
    drop_remainder: bool = False,
    context: tf.distribute.InputContext | None = None,
    labels: bool = False,
    cuts: Cuts | None = None,
) -> tf.data.Dataset:
    """The images once, in their order.

    Args:
        split: N images.
        batch_size: Images per batch over all devices.
        drop_remainder: Whether to leave out the images after the last full batch, which makes the batch's shape static.
        context: Worker whose part to read; None for everything. Needs `drop_remainder`.
        labels: Whether to yield (images, labels) instead of images.
        cuts: Boxes to cut out of the original images, if the split has encoded ones: those of validation.

    Returns:
        Batches of uint8 (B, H, W, C), or (B, V, H, W, C) with `cuts`, and labels int32 (B,). With a context, of
        batch_size / replicas rows, over and over: of a stream that ends, TensorFlow hides the static shape from several
        workers, in case one of them ends earlier.

    Raises:
        ValueError: If `drop_remainder` would leave nothing, the labels asked for are missing, or the batch does not
            divide by the replicas.
    """
    _check(split, batch_size, labels)
    if drop_remainder and len(split) < batch_size:
        raise ValueError(
            f"A full batch of {batch_size} images needs at least as many images: take a smaller `batch_size` "
            f"or more images. Received: {len(split)} images"
        )
    images = split.images
    elements = _stream(images, None, labels) if isinstance(images, StreamImages) else tf.data.Dataset.range(len(images))
    batches = elements.batch(batch_size, drop_remainder=drop_remainder)
    if cuts is not None:
        draws = cuts.draws(cuts.validation_step, batch_size)
        batches = batches.map(lambda indices: (indices, draws[: tf.size(indices)]))
    batches = _read(split, _share(batches, batch_size, context), labels, cuts, None)
    return batches if context is None else batches.repeat()


def _check(split: Split, batch_size: int, labels: bool) -> None:
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: {batch_size}")
    if labels and not split.labeled:
        raise ValueError("Labels were asked for, and these images have none. Received: `labels=True`")


def _stream(images: StreamImages, order: Order | None, labels: bool) -> tf.data.Dataset:
    """The elements of a stream; every worker reads all of them."""
    stream = images.stream(order)
    if images.labeled and not labels:
        stream = stream.map(lambda image, label: image)
    # With fewer images than promised, the steps of an epoch would run into the next one.
    return stream.apply(tf.data.experimental.assert_cardinality(len(images)))


def _share(batches: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
    """(batch_size, ...) -> the rows of one worker, a batch for each of its replicas in turn."""
    if context is None:
        return batches
    workers, replicas = context.num_input_pipelines, context.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(f"The batch must divide by the {replicas} replicas. Received: {batch_size}")
    shape = (workers, replicas // workers, batch_size // replicas)

    def of_worker(rows: tf.Tensor) -> tf.Tensor:
        return tf.reshape(rows, (*shape, *rows.shape[1:]))[context.input_pipeline_id]

    return batches.map(lambda *parts: tf.nest.map_structure(of_worker, parts if len(parts) > 1 else parts[0])).unbatch()


def read_batch(
    split: Split, indices: np.ndarray, step: int, cuts: Cuts | None = None, labels: bool = False
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """One batch, eagerly: the images `indices`, int (B,), as `training_batches` yields them in a step."""
    rows = tf.constant(indices, tf.int64)
    batches = tf.data.Dataset.from_tensors(rows if cuts is None else (rows, cuts.draws(step, len(indices))))
    return _read(split, batches, labels, cuts, None).get_single_element()


def _read(
    split: Split, batches: tf.data.Dataset, labels: bool, cuts: Cuts | None, damaged: Damaged | None
) -> tf.data.Dataset:
    """Indices, int64 (B,), or batches of a stream, which are read already -> batches, read ahead and in order."""
    images = split.images
    known = None if split.labels is None or not labels else on_cpu(split.labels)
    if isinstance(images, EncodedImages):
        batches = _decode(images, batches, cuts, damaged or Damaged(images))
        batches = batches.map(lambda pixels, used: pixels if known is None else (pixels, tf.gather(known, used)))
    elif not isinstance(images, StreamImages):
        batches = batches.map(images.read if known is None else lambda i: (images.read(i), tf.gather(known, i)))
    options = tf.data.Options()
    options.deterministic = True
    # Nothing here is left to tune, and the thread that tunes sleeps for up to a minute when its iterator should end:
    # each validation would wait for it.
    options.autotune.enabled = False
    # A stream that a worker should share is given a context; TensorFlow's own sharding would read all and drop most.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).prefetch(READ_AHEAD)


def _decode(images: EncodedImages, batches: tf.data.Dataset, cuts: Cuts | None, damaged: Damaged) -> tf.data.Dataset:
    """Indices, int64 (B,), and what decides about their boxes -> pixels, and the indices of the images that they show."""

    def placed(indices: tf.Tensor, *draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Adds the boxes, as the images are stored; for a batch at once, because each small operation costs as much."""
        if cuts is None:
            return (indices,)
        shapes = tf.gather(images.shapes, indices)
        boxes = decode.as_stored(cuts.boxes(draws[0], shapes), tf.gather(images.orientations, indices), shapes)
        return indices, boxes, draws[0]

    def fetch(indices: tf.Tensor, *row: tf.Tensor) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((indices, *row))
        return images.fetched(rows).batch(_size(indices), drop_remainder=True)

    def decode_one(
        fetched: tf.Tensor, orientation: tf.Tensor, index: tf.Tensor, boxes: tf.Tensor | None = None, *_: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        contents, side = images.contents(fetched), images.image_shape[0]
        if boxes is None:
            return decode.whole(contents, orientation, side), index
        return decode.cut(contents, orientation, boxes, side), index

    def substituted(fetched: tf.Tensor, orientation: tf.Tensor, index: tf.Tensor, *row: tf.Tensor) -> tf.data.Dataset:
        count = min(1 + SUBSTITUTES, len(images))
        candidates = tf.data.Dataset.range(count).map(lambda more: placed((index + more) % len(images), *row[1:]))
        shape = images.image_shape if cuts is None else (cuts.views, *images.image_shape)
        nothing = (tf.zeros(shape, tf.uint8), tf.constant(-1, tf.int64))
        return images.first_without_error(candidates, count, decode_one, nothing)

    def decoded(fetched: tf.Tensor, orientations: tf.Tensor, indices: tf.Tensor, *row: tf.Tensor) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((fetched, orientations, indices, *row))
        # One image that cannot be decoded fails the whole batch, which is then made again with an eye on each image:
        # that is slower, so not the rule.
        quick = rows.map(decode_one, images.decoders, deterministic=images.decoders and True)
        quick = quick.batch(_size(indices), drop_remainder=True)
        careful = in_parallel(rows, substituted, images.decoders).batch(_size(indices), drop_remainder=True)
        batch = quick.ignore_errors().concatenate(careful).take(1)
        return batch.map(lambda pixels, used: (pixels, indices, used))

    count = batches.cardinality()
    read = batches.map(placed).flat_map(fetch).prefetch(READ_AHEAD).flat_map(decoded)
    return read.apply(tf.data.experimental.assert_cardinality(count)).map(damaged.check)


def _size(indices: tf.Tensor) -> int | tf.Tensor:
    """The number of rows, as an integer where it is known."""
    return indices.shape[0] or tf.size(indices, tf.int64)


@contextlib.contextmanager
def naming_lost_images() -> Iterator[None]:
    """Reduces TensorFlow's report that a source could not read an image to the source's own sentence.

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
