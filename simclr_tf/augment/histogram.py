"""Operations on the histogram of each image of a plane (N, H, W), as defined by PIL's `ImageOps`."""

import tensorflow as tf

LEVELS = 256


def autocontrast(plane: tf.Tensor) -> tf.Tensor:
    """Stretches each image's values over [0, 1]; constant images are unchanged."""
    low = tf.reduce_min(plane, axis=[1, 2], keepdims=True)
    extent = tf.reduce_max(plane, axis=[1, 2], keepdims=True) - low
    flat = extent <= 0.0
    return tf.where(flat, plane, (plane - low) / tf.where(flat, 1.0, extent))


def equalize(plane: tf.Tensor) -> tf.Tensor:
    """Spreads each image's values so that their histogram is nearly flat.

    In bytes, a value v becomes (step // 2 + number of pixels below v) // step with
    step = (number of pixels below the largest value) // 255; with a step of 0 nothing changes.
    """
    pixels = plane.shape[1] * plane.shape[2]
    level = tf.cast(tf.round(tf.reshape(plane, [-1, pixels]) * 255.0), tf.int32)
    largest = tf.reduce_max(level, axis=1, keepdims=True)
    at_largest = tf.reduce_sum(tf.cast(level == largest, tf.int32), axis=1, keepdims=True)
    step = (pixels - at_largest) // (LEVELS - 1)  # (N, 1)
    images = tf.shape(level)[0]
    bins = level + LEVELS * tf.range(images)[:, tf.newaxis]
    counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, images * LEVELS)
    below = tf.cumsum(tf.reshape(counts, [images, LEVELS]), axis=1, exclusive=True)
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), LEVELS - 1)
    values = tf.gather(tf.cast(table, tf.float32) / 255.0, level, batch_dims=1)
    return tf.where(step[:, :, tf.newaxis] > 0, tf.reshape(values, tf.shape(plane)), plane)
