"""Splits -> tf.data streams of uint8 batches; nothing is augmented here.

Given a `tf.distribute.InputContext`, a stream is one worker's: it reads only the images of its own replicas, and its
batches are theirs in turn, with `batch_size / replicas` images each. Replica r of R has rows r B / R to (r + 1) B / R of
the global batch, whatever R is.
"""

import tensorflow as tf

from simclr_tf.data.dataset import Split

READ_AHEAD = 2  # batches


def training_batches(
    split: Split, batch_size: int, seed: int, first_epoch: int = 0, context: tf.distribute.InputContext | None = None
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

    Returns:
        Batches of uint8 (batch_size, H, W, C); with a context, (batch_size / replicas, H, W, C).

    Raises:
        ValueError: when the split has too few images for one batch, or the batch does not divide by the replicas.
    """
    _check_batch_size(batch_size)
    steps = len(split) // batch_size
    if steps == 0:
        raise ValueError(
            f"A batch of {batch_size} images needs at least as many training images: take a smaller --batch_size "
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

    indices = _own(tf.data.Dataset.counter(first_epoch).flat_map(epoch_indices), batch_size, context)
    # flat_map hides it, and without it Keras would count an epoch by running into the end of the data.
    indices = indices.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return _read_batches(split, indices)


def ordered_batches(
    split: Split, batch_size: int, drop_remainder: bool = False, context: tf.distribute.InputContext | None = None
) -> tf.data.Dataset:
    """The images once, in their order.

    Args:
        split: N images.
        batch_size: images a batch.
        drop_remainder: leave out the images after the last full batch, and so make the batch's shape static.
        context: which worker's part to read; None for all. Needs `drop_remainder`.

    Returns:
        Batches of uint8 (B, H, W, C); with a context, (batch_size / replicas, H, W, C), over and over: of a stream that
        ends, TensorFlow hides the static shape from several workers, in case one of them ends earlier.

    Raises:
        ValueError: when `drop_remainder` would leave nothing, or the batch does not divide by the replicas.
    """
    _check_batch_size(batch_size)
    if drop_remainder and len(split) < batch_size:
        raise ValueError(
            f"A full batch of {batch_size} images needs at least as many images: take a smaller --batch_size "
            f"or more images. Received: {len(split)} images"
        )
    indices = tf.data.Dataset.range(len(split)).batch(batch_size, drop_remainder=drop_remainder)
    batches = _read_batches(split, _own(indices, batch_size, context))
    return batches if context is None else batches.repeat()


def _own(indices: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
    """Int64 (batch_size,) -> what the replicas of one worker have of it, one after the other."""
    if context is None:
        return indices
    workers, replicas = context.num_input_pipelines, context.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(f"The batch must divide by the {replicas} replicas. Received: {batch_size}")
    shape = (workers, replicas // workers, batch_size // replicas)
    return indices.map(lambda rows: tf.reshape(rows, shape)[context.input_pipeline_id]).unbatch()


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: {batch_size}")


def _read_batches(split: Split, indices: tf.data.Dataset) -> tf.data.Dataset:
    """Int64 (B,) -> uint8 (B, H, W, C), read ahead and in order.

    One batch at a time: a store that has files to decode uses all cores for each.
    """
    images = indices.map(split.read)
    options = tf.data.Options()
    options.deterministic = True
    # Nothing here is left to tune, and the thread that tunes sleeps for up to a minute when its iterator should end:
    # each validation would wait for it.
    options.autotune.enabled = False
    # A stream that a worker should share is given a context; TensorFlow's own sharding would read all and drop most.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return images.with_options(options).prefetch(READ_AHEAD)
