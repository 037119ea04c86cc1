"""Random numbers by hashing a counter: one for each pixel, from two integers per image.

`tf.random.stateless_normal` takes one key for a whole tensor, so the noise of an image would depend on the size of its
batch, or every replica would have to draw the noise of the global batch.
"""

import math

import tensorflow as tf


def standard_normal(keys: tf.Tensor, count: int, stream: int = 0) -> tf.Tensor:
    """Independent standard normal numbers within 5.3 of 0, float32 (N, count), a pure function of keys, int32 (N, 2).

    Each `stream` is an independent set of numbers; over all streams, an image has fewer than 2^32.
    """
    counter, keys = tf.cast(tf.range(count) + count * stream, tf.uint32), tf.cast(keys, tf.uint32)
    x = _mix(counter + _mix(keys[:, :1]))
    bits = tf.bitwise.right_shift(_mix(x ^ _mix(keys[:, 1:] + 0x9E3779B9)), tf.constant(9, tf.uint32))
    u = (tf.cast(tf.cast(bits, tf.int32), tf.float32) + 0.5) / 2.0**23  # in (0, 1)
    # Inverting the distribution takes half the hashing of the Box-Muller method, and no trigonometry.
    return math.sqrt(2.0) * tf.math.erfinv(2.0 * u - 1.0)


def _mix(x: tf.Tensor) -> tf.Tensor:
    """A bijection of uint32; each input bit flips about half of the output bits ("lowbias32", Wellons, 2018)."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32))) * tf.constant(factor, tf.uint32)
    return x ^ tf.bitwise.right_shift(x, tf.constant(16, tf.uint32))
