"""Splits -> tf.data streams of uint8 batches; nothing is augmented here."""

import tensorflow as tf

from simclr_tf.data.dataset import Split


def training_batches(split: Split, batch_size: int, seed: int, first_epoch: int = 0) -> tf.data.Dataset:
    """Endless batches, every epoch in an order of its own.

    The order is a pure function of (seed, epoch): a run that resumes at epoch e sees the images in the order in which
    it would have seen them, and nothing has to be saved for that. An epoch has floor(N / batch_size) batches; the
    images left over are others in every epoch.

    Args:
        split: N images.
        batch_size: images a batch, at most N; over all devices.
        seed: any integer of 64 bits.
        first_epoch: the epoch to begin with, from 0.

    Returns:
        Batches of uint8 (batch_size, H, W, C).

    Raises:
        ValueError: when the split has too few images for one batch.
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

    indices = tf.data.Dataset.counter(first_epoch).flat_map(epoch_indices)
    # flat_map hides it, and without it Keras would count an epoch by running into the end of the data.
    indices = indices.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return _read_batches(split, indices)


def ordered_batches(split: Split, batch_size: int, drop_remainder: bool = False) -> tf.data.Dataset:
    """The images once, in their order.

    Args:
        split: N images.
        batch_size: images a batch.
        drop_remainder: leave out the images after the last full batch, and so make the batch's shape static.

    Returns:
        Batches of uint8 (B, H, W, C).

    Raises:
        ValueError: when `drop_remainder` would leave nothing.
    """
    _check_batch_size(batch_size)
    if drop_remainder and len(split) < batch_size:
        raise ValueError(
            f"A full batch of {batch_size} images needs at least as many images: take a smaller --batch_size "
            f"or more images. Received: {len(split)} images"
        )
    indices = tf.data.Dataset.range(len(split)).batch(batch_size, drop_remainder=drop_remainder)
    return _read_batches(split, indices)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: {batch_size}")


def _read_batches(split: Split, indices: tf.data.Dataset) -> tf.data.Dataset:
    """Int64 (B,) -> uint8 (B, H, W, C), read ahead and in order."""
    images = indices.map(split.read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    # There are no files for the workers to share out: each reads the same stream and keeps its part of every batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return images.with_options(options).prefetch(tf.data.AUTOTUNE)
