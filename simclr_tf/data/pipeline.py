"""Splits -> tf.data streams of batches, uint8 images with or without their labels; nothing is augmented here.

Given a `tf.distribute.InputContext`, a stream is one worker's: it has only the images of that worker's replicas, in
batches of `batch_size / replicas`, one replica after another. Replica r of R has rows r B / R to (r + 1) B / R of the
global batch, whatever R is.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from simclr_tf.data import decode, service
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
        """The draws that determine the boxes of a global batch in a step, float32 (count, V, K)."""

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
    data_service: str | None = None,
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
        first_step: Number of batches of that epoch to skip. They are not read, unless the images are a stream.
        context: Worker whose part to read; None for everything.
        labels: Whether to yield (images, labels) instead of images.
        cuts: Boxes to cut out of the original images, if the split has encoded ones.
        damaged: Counts and limits the images that are replaced because they cannot be decoded; None allows none.
        data_service: Address of the tf.data service whose workers decode encoded images; None decodes here.

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
    images, first = split.images, first_epoch * steps + first_step
    if data_service and not isinstance(images, EncodedImages):
        raise ValueError(f"`data_service` decodes images, and these are not encoded. Received: {type(images).__name__}")
    if isinstance(images, StreamImages):

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            done = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_step, tf.int64), 0)
            return _stream(images, (seed, epoch), labels).batch(batch_size, drop_remainder=True).skip(done)

        batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch_batches)
    else:

        def row(number: tf.Tensor, indices: tf.Tensor) -> Any:
            parts = [indices] if cuts is None else [indices, cuts.draws(number, batch_size)]
            if data_service:
                parts.insert(0, number * batch_size + tf.range(batch_size, dtype=tf.int64))  # their places in the run
            return tuple(parts) if len(parts) > 1 else indices

        batches = _planned(len(images), batch_size, seed, first).map(row)
    # Without it Keras would count an epoch by running into the end of the data.
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    batches = _share(batches, batch_size, context)
    if not data_service:
        return _read(split, batches, labels, cuts, damaged)
    elsewhere = partial(_decode_elsewhere, address=data_service, numbers=partial(_numbers, first, context))
    return _read(split, batches, labels, cuts, damaged, elsewhere)


def _planned(count: int, batch_size: int, seed: int, first: int) -> tf.data.Dataset:
    """Batches from number `first` on, counted over all epochs: their numbers, int64 (), and indices, (batch_size,)."""
    steps = count // batch_size

    def plan(known: tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tuple[Any, Any]:
        epoch = number // steps
        order = tf.cond(epoch == known[0], lambda: known[1], lambda: _order(count, batch_size, seed, epoch))
        return (epoch, order), (number, order[number % steps])

    nothing = (tf.constant(-1, tf.int64), tf.zeros((steps, batch_size), tf.int64))
    return tf.data.Dataset.range(first, tf.int64.max).scan(nothing, plan)


def _numbers(first: int, context: tf.distribute.InputContext | None) -> Iterator[int]:
    """The numbers of a worker's batches, one for each of its replicas in turn; counted over all replicas."""
    replicas = context.num_replicas_in_sync if context else 1
    own = replicas // context.num_input_pipelines if context else 1
    before = own * context.input_pipeline_id if context else 0
    for step in itertools.count(first):
        yield from range(replicas * step + before, replicas * step + before + own)


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
    damaged: Damaged | None = None,
) -> tf.data.Dataset:
    """The images once, in their order.

    Args:
        split: N images.
        batch_size: Images per batch over all devices.
        drop_remainder: Whether to leave out the images after the last full batch, which makes the batch's shape static.
        context: Worker whose part to read; None for everything. Needs `drop_remainder`.
        labels: Whether to yield (images, labels) instead of images.
        cuts: Boxes to cut out of the original images, if the split has encoded ones: those of validation.
        damaged: Counts and limits the images that are replaced because they cannot be decoded; None allows none.

    Returns:
        Batches of uint8 (B, H, W, C), or (B, V, H, W, C) with `cuts`, and labels int32 (B,). With a context, they
        have batch_size / replicas rows and repeat without end: if they ended, TensorFlow would hide the static shape from
        several workers, in case one of them ran out earlier.

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
    batches = _read(split, _share(batches, batch_size, context), labels, cuts, damaged)
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
    split: Split, indices: np.ndarray, step: int, cuts: Cuts | None = None, labels: bool = False,
    damaged: Damaged | None = None,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:  # fmt: skip
    """The batch of `one_batch`, eagerly."""
    return one_batch(split, indices, step, cuts, labels, damaged).get_single_element()


def one_batch(
    split: Split, indices: np.ndarray, step: int, cuts: Cuts | None = None, labels: bool = False,
    damaged: Damaged | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """One batch: the images `indices`, int (B,), as `training_batches` yields them in a step."""
    rows = tf.constant(indices, tf.int64)
    batches = tf.data.Dataset.from_tensors(rows if cuts is None else (rows, cuts.draws(step, len(indices))))
    return _read(split, batches, labels, cuts, damaged)


def _read(
    split: Split, batches: tf.data.Dataset, labels: bool, cuts: Cuts | None, damaged: Damaged | None,
    decoded: Callable[..., tf.data.Dataset] | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """Indices, int64 (B,), or batches of a stream, which are read already -> batches, read ahead and in order."""
    images = split.images
    known = None if split.labels is None or not labels else on_cpu(split.labels)
    if isinstance(images, EncodedImages):
        batches = (decoded or _decode)(images, batches, cuts).map((damaged or Damaged(images)).check)
        batches = batches.map(lambda pixels, used: pixels if known is None else (pixels, tf.gather(known, used)))
    elif not isinstance(images, StreamImages):
        batches = batches.map(images.read if known is None else lambda i: (images.read(i), tf.gather(known, i)))
    options = tf.data.Options()
    options.deterministic = True
    # Nothing here is left to tune, and the thread that tunes sleeps for up to a minute when its iterator should end:
    # each validation would wait for it.
    options.autotune.enabled = False
    # Workers' shares are dealt out above, given a context. Without one, TensorFlow deals out what was read, as there are no
    # files that it could deal out.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).prefetch(READ_AHEAD)


def _decode(images: EncodedImages, batches: tf.data.Dataset, cuts: Cuts | None) -> tf.data.Dataset:
    """Indices, int64 (B,), and the draws of their boxes -> pixels, the indices, and the indices of the images they show."""

    def placed(indices: tf.Tensor, *draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Adds the boxes in the stored images, for a batch at once, because small operations cost as much for one image."""
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
        # One image that cannot be decoded fails the whole batch, which is then decoded again with substitutes for such
        # images: that is slower, so it is only the fallback.
        quick = rows.map(decode_one, images.decoders, deterministic=images.decoders and True)
        quick = quick.batch(_size(indices), drop_remainder=True)
        careful = in_parallel(rows, substituted, images.decoders).batch(_size(indices), drop_remainder=True)
        batch = quick.ignore_errors().concatenate(careful).take(1)
        return batch.map(lambda pixels, used: (pixels, indices, used))

    count = batches.cardinality()
    read = batches.map(placed).flat_map(fetch).prefetch(READ_AHEAD).flat_map(decoded)
    return read.apply(tf.data.experimental.assert_cardinality(count))


def _decode_elsewhere(
    images: EncodedImages, batches: tf.data.Dataset, cuts: Cuts | None, address: str,
    numbers: Callable[[], Iterator[int]],
) -> tf.data.Dataset:  # fmt: skip
    """As `_decode`, of batches that begin with the places of their images, by the workers of a tf.data service."""

    def one(places: tf.Tensor, *row: tf.Tensor) -> tf.data.Dataset:
        number = tf.data.Dataset.from_tensors(places[0] // _size(places))
        return tf.data.Dataset.zip(number, _decode(images, tf.data.Dataset.from_tensors(row), cuts))

    return service.in_order(service.served(batches.flat_map(one).prefetch(1), address), numbers)


def _size(indices: tf.Tensor) -> int | tf.Tensor:
    """The number of rows, as an integer where it is known."""
    return indices.shape[0] or tf.size(indices, tf.int64)


@contextlib.contextmanager
def naming_lost_images() -> Iterator[None]:
    """Reduces TensorFlow's report of lost images, batches or records to one sentence, our own where it is in there.

    Raises:
        ValueError: In place of that report; every other error passes.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if lost := re.search(f"({LOST}|{service.LOST_BATCH}).*", str(error)):
            raise ValueError(lost[0]) from error
        if damaged := re.search(r"(corrupted|truncated) record at \d+", str(error)):
            raise ValueError(
                "A shard of records is damaged: compare the shards with their checksums, and make it again. "
                f"Received: {damaged[0]}"
            ) from error
        if gone := re.search(r"(?m)^(?:{{.*}} )?(.+; (No such file or directory|Permission denied))", str(error)):
            raise ValueError(f"A file that was there at the start cannot be read. Received: {gone[1]}") from error
        raise
