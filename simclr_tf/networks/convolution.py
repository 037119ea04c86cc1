"""A convolution that is faster on a CPU where maps are small."""

import keras
import tensorflow as tf

from simclr_tf._compat import compiled_by_xla

# Where the exchange pays, as measured on AMD Zen 4 (docs/results/speed.md); elsewhere oneDNN's own kernel is faster.
FEWEST_FILTERS = 32
PIXELS_A_FILTER = 2 / 3  # at most, of the output


@keras.saving.register_keras_serializable("simclr_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras' 2D convolution; on a CPU, small maps are convolved in another way while training, which is faster.

    In float32, a 3 x 3 convolution of maps of 2 x 2 is one matrix product (`convolve_2x2`). In bfloat16, oneDNN's kernel
    for the gradient of the weights takes up to eight times as long as the forward pass. That gradient

        dW[i, j, c, k] = sum over n, h, w of x[n, s h + i, s w + j, c] dy[n, h, w, k]

    is also a convolution of x with the kernel dy, dilated by the stride s, in which images and channels have exchanged
    their roles. All else is as in Keras.
    """

    def call(self, inputs, training=False):
        """Convolves inputs (B, H, W, C)."""
        self._training = training
        return super().call(inputs)

    def convolution_op(self, inputs, kernel):
        """Convolves inputs (B, H, W, C) with a kernel (kh, kw, C, K)."""
        inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
        plain = self.data_format == "channels_last" and self.groups == 1 and self.dilation_rate == (1, 1)
        on_cpu = all(device.device_type == "CPU" for device in tf.config.list_logical_devices())
        if plain and on_cpu and not compiled_by_xla():
            same = self.kernel_size == (3, 3) and self.strides == (1, 1) and self.padding == "same"
            four = inputs.shape[1:3] == (2, 2) and inputs.dtype == tf.float32
            if self._training and same and four:  # for one image alone, to make the matrix would take longest
                return convolve_2x2(inputs, kernel)
            if self._exchanges(inputs):
                return convolve(inputs, kernel, self.strides[0], self.padding.upper())
        return super().convolution_op(inputs, kernel)

    def _exchanges(self, inputs) -> bool:
        if inputs.dtype != tf.bfloat16 or self.strides[0] != self.strides[1] or max(self.kernel_size) == 1:
            return False
        _, height, width, _ = self.compute_output_shape(inputs.shape)
        if None in (height, width) or self.filters < FEWEST_FILTERS:
            return False
        return height * width <= PIXELS_A_FILTER * self.filters


def convolve_2x2(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`tf.nn.conv2d` of maps of 2 x 2 pixels by a 3 x 3 kernel with padding "SAME", as one matrix product.

    All inputs of an image take part in all its outputs. Of the 36 products of a channel and a filter, 20 would be with
    padding; a matrix of 16 leaves them out.

    Args:
        x: Feature maps, (B, 2, 2, C).
        kernel: Weights, (3, 3, C, K).

    Returns:
        A tensor (B, 2, 2, K).
    """
    channels, filters = kernel.shape[2:]
    # Input (i, j) reaches output (p, q) through the weights at (i - p + 1, j - q + 1).
    columns = [
        tf.reshape(kernel[1 - p : 3 - p, 1 - q : 3 - q], [4 * channels, filters]) for p in (0, 1) for q in (0, 1)
    ]
    product = tf.matmul(tf.reshape(x, [-1, 4 * channels]), tf.concat(columns, axis=1))
    return tf.reshape(product, [-1, 2, 2, filters])


def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    """`tf.nn.conv2d` whose gradient for the kernel is computed by exchanged roles.

    Args:
        x: Feature maps, (B, H, W, C).
        kernel: Weights, (kh, kw, C, K).
        stride: Stride in both directions, in pixels.
        padding: "SAME" or "VALID".

    Returns:
        A tensor (B, H', W', K).
    """

    @tf.custom_gradient
    def forward(x, kernel):
        def gradient(dy):
            dx = tf.nn.conv2d_transpose(dy, kernel, tf.shape(x), stride, padding)
            return dx, kernel_gradient(x, dy, kernel.shape[:2], stride, padding)

        return tf.nn.conv2d(x, kernel, stride, padding), gradient

    return forward(x, kernel)


def kernel_gradient(x: tf.Tensor, dy: tf.Tensor, size: tuple[int, int], stride: int, padding: str) -> tf.Tensor:
    """The gradient (kh, kw, C, K) for a kernel of that size, of inputs x (B, H, W, C) and an output's gradient dy."""
    pads = []
    # Rows beyond the last that the kernel reaches have no part in the gradient and are cut off; missing rows are padded.
    for side, steps, taps in zip(x.shape[1:3], dy.shape[1:3], size, strict=True):
        reached = (steps - 1) * stride + taps
        before = max(reached - side, 0) // 2 if padding == "SAME" else 0
        pads.append((before, reached - side - before))
    (top, bottom), (left, right) = pads
    x = x[:, : x.shape[1] + min(bottom, 0), : x.shape[2] + min(right, 0)]
    with tf.name_scope("weight_gradient"):  # by which `training/profile.py` knows it
        images_last = tf.transpose(x, [3, 1, 2, 0])  # images as channels, channels as images
        exchanged = tf.nn.conv2d(
            images_last, tf.transpose(dy, [1, 2, 0, 3]), 1,
            [[0, 0], [top, max(bottom, 0)], [left, max(right, 0)], [0, 0]], dilations=stride,
        )  # fmt: skip
        return tf.transpose(exchanged, [1, 2, 0, 3])
