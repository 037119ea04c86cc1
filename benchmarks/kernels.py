"""What a step has to compute whoever computes it: TensorFlow's convolutions of an encoder, each by itself.

    python -m benchmarks.harness benchmarks.kernels:peak '{"precision": "bfloat16"}'

prints the operations a second of a large matrix product, of which a step has a share.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import harness


class Convolution(NamedTuple):
    """A convolution of an encoder."""

    side: int  # pixels of its input
    channels: int
    filters: int
    taps: int  # side of its kernel
    stride: int
    padding: str

    def flops(self, images: int) -> float:
        """Floating-point operations of the forward pass; each of the two gradients takes as many."""
        reach = self.side if self.padding == "same" else self.side - self.taps + 1
        return 2.0 * images * (-(-reach // self.stride) * self.taps) ** 2 * self.channels * self.filters


def convolutions(encoder: Any) -> Counter[Convolution]:
    """The convolutions of an encoder, and how many are alike."""
    import keras

    return Counter(
        Convolution(layer.input.shape[1], layer.input.shape[-1], layer.filters, layer.kernel_size[0], layer.strides[0],
                    layer.padding)
        for layer in encoder.layers
        if isinstance(layer, keras.layers.Conv2D)
    )  # fmt: skip


def passes(convolution: Convolution, images: int, precision: str) -> Callable[[], float]:
    """Computes the output and both gradients of random values by TensorFlow's own kernels; the images have none."""
    import tensorflow as tf

    side, channels, filters, taps, stride, padding = convolution
    x = tf.cast(tf.random.normal((images, side, side, channels)), precision)
    kernel = tf.cast(tf.random.normal((taps, taps, channels, filters)), precision)
    upstream = tf.nn.conv2d(x, kernel, stride, padding.upper())

    @tf.function
    def run(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch(wanted := [kernel] if channels == 3 else [kernel, x])
            y = tf.nn.conv2d(x, kernel, stride, padding.upper())
        found = tape.gradient(y, wanted, upstream)
        return tf.add_n([tf.cast(tf.reshape(value, [-1])[0], tf.float32) for value in (y, *found)])

    return lambda: float(run(x, kernel, upstream))


def seconds(encoder: Any, images: int, precision: str, runs: int) -> float:
    """Seconds of all convolutions of an encoder, forward and backward, the best of `runs` of each."""
    return sum(
        number * harness.measure(passes(convolution, images, precision), runs)["best"]
        for convolution, number in convolutions(encoder).items()
    )


def flops(encoder: Any, images: int) -> float:
    """Operations of all convolutions of an encoder, forward and backward."""
    return sum(
        number * (2 if convolution.channels == 3 else 3) * convolution.flops(images)
        for convolution, number in convolutions(encoder).items()
    )


def peak(precision: str, side: int = 2048, runs: int = 5) -> harness.Result:
    """Operations a second of a large matrix product, which is about all that the processor can do."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    x = tf.cast(tf.random.normal((side, side)), precision)
    product = tf.function(lambda x: tf.matmul(x, x)[0, 0])
    return {"flops": 2.0 * side**3 / harness.measure(lambda: float(product(x)), runs)["best"]}
