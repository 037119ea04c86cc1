"""Batch normalization over the global batch (paper, section 2.2: "global BN").

If each device normalized its own images only, the network could recognize the two views of an image by the statistics
that they share and lower the loss without learning anything.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from simclr_tf._compat import compiled_by_xla, layers_of
from simclr_tf.distribution import all_stack, all_sum, num_replicas


@keras.saving.register_keras_serializable("simclr_tf")
class SyncBatchNormalization(keras.layers.Layer):
    """Batch normalization with the mean and variance of the images of all replicas.

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    One replica runs TensorFlow's fused kernel, which Keras' own layer never does. Several replicas, which must hold
    equally many images, need one collective in each direction. The forward pass exchanges means and variances, which
    combine to mean(variance_r + (mean_r - mean)^2); unlike E[x^2] - E[x]^2, this does not cancel. The backward pass
    exchanges the sums of the gradient.

    Reference: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.

    Args:
        momentum: Momentum of the moving statistics, moving = momentum * moving + (1 - momentum) * batch.
        epsilon: Small number added to the variance.
        gamma_initializer: Initializer of the scale; "zeros" for the last layer of a residual block.
        center: Whether there is an offset beta.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, ..., C), any float dtype. Output shape: the same; statistics are float32. There is no fused kernel
    for float64, which is computed by basic operations.
    """

    def __init__(
        self, momentum: float = 0.9, epsilon: float = 1e-5, gamma_initializer="ones", center: bool = True, **kwargs
    ):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.center = center

    def build(self, input_shape):
        """Creates the scale, the offset if any, and the moving statistics, (C,) each."""
        own = {"shape": (input_shape[-1],), "dtype": self._dtype(), "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer=self.gamma_initializer, **own)
        if self.center:
            self.beta = self.add_weight(name="beta", initializer="zeros", **own)
        self.moving_mean = self._statistic(own["shape"], "zeros", "moving_mean")
        self.moving_variance = self._statistic(own["shape"], "ones", "moving_variance")

    def _dtype(self) -> str:
        """That of all variables, also where those of other layers are in half precision: the fused kernel's."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    def _statistic(self, shape, initializer, name):
        """A variable of which each replica has its own copy.

        All replicas compute the same statistics, so any copy will do and an assignment needs no communication.
        """
        return keras.Variable(
            initializer, shape=shape, trainable=False, autocast=False, name=name, dtype=self._dtype(),
            synchronization="on_read", aggregation="only_first_replica",
        )  # fmt: skip

    def call(self, x, training=False):
        """Normalizes by the batch's statistics when training, otherwise by the moving ones."""
        if x.shape.rank != 4:  # the fused kernel takes four dimensions only
            y = self.call(tf.reshape(x, [-1, 1, 1, x.shape[-1]]), training=training)
            return tf.reshape(y, tf.shape(x))
        gamma = tf.convert_to_tensor(self.gamma)
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(gamma)
        if training and self.trainable:
            written = num_replicas() > 1 or compiled_by_xla()
            normalize = _normalize_across_replicas if written else _moments
            y, mean, variance = normalize(x, gamma, beta, self.epsilon)
            _move((self.moving_mean, self.moving_variance), (mean, variance), self.momentum)
        else:
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
            y = _fused(x, gamma, beta, mean, variance, self.epsilon, is_training=False).y
        return y

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return super().get_config() | {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "center": self.center,
        }


_tracing = threading.local()  # each replica is traced by a thread of its own


@contextlib.contextmanager
def keeping_statistics() -> Iterator[None]:
    """What is traced in the block normalizes by the batch's statistics, but does not move the moving ones."""
    _tracing.keeps = True
    try:
        yield
    finally:
        _tracing.keeps = False


def keras_norm(*models: keras.Model) -> str:
    """The name of a batch norm of Keras' own in the models, if its statistics move; they do in every forward pass."""
    layers = (layer for model in models for layer in layers_of(model))
    return next(
        (each.name for each in layers if isinstance(each, keras.layers.BatchNormalization) and each.trainable), ""
    )


def _move(variables, values, momentum: float) -> None:
    if getattr(_tracing, "keeps", False):
        return
    before = [tf.convert_to_tensor(variable) for variable in variables]
    moved = [
        old * momentum + tf.stop_gradient(value) * (1.0 - momentum) for old, value in zip(before, values, strict=True)
    ]
    # A step that is not finite makes no update of the weights, and must not leave its statistics for ever either.
    finite = tf.reduce_all(tf.math.is_finite(moved), axis=0)
    for variable, old, new in zip(variables, before, moved, strict=True):
        variable.assign(tf.where(finite, new, old))


def _fused(x, gamma, beta, mean, variance, epsilon, is_training):
    if x.dtype == tf.float64:
        return _written_out(x, gamma, beta, mean, variance, epsilon, is_training)
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=is_training
    )


class _Normalized(NamedTuple):
    y: tf.Tensor
    batch_mean: tf.Tensor
    batch_variance: tf.Tensor


def _written_out(x, gamma, beta, mean, variance, epsilon, is_training):
    """What the fused kernel computes, by basic operations."""
    if is_training:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
    y = (x - mean) * tf.math.rsqrt(variance + epsilon) * gamma + beta
    rows = _rows(x)
    return _Normalized(y, mean, variance * rows / tf.maximum(rows - 1.0, 1.0))


def _fixed_gradient(dy, x, gamma, mean, variance, epsilon):
    """Gradients with respect to x, gamma and beta for fixed statistics: dx = gamma / std * dy."""
    if x.dtype == tf.float64:
        inverse_std = tf.math.rsqrt(variance + epsilon)
        sums = (tf.reduce_sum(dy * (x - mean) * inverse_std, [0, 1, 2]), tf.reduce_sum(dy, [0, 1, 2]))
        return gamma * inverse_std * dy, *sums
    fused = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=dy, x=x, scale=gamma, reserve_space_1=mean, reserve_space_2=variance,
        reserve_space_3=[], epsilon=epsilon, is_training=False,
    )  # fmt: skip
    return fused.x_backprop, fused.scale_backprop, fused.offset_backprop


def _rows(x) -> tf.Tensor:
    """The number of values of each channel."""
    return tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float64 if x.dtype == tf.float64 else tf.float32)


def _moments(x, gamma, beta, epsilon):
    """Outputs, mean and biased variance of this replica's values, by the fused kernel in training mode."""
    rows = _rows(x)
    # XLA's kernel computes the variance as E[x^2] - E[x]^2, which cancels where the mean is large. Subtracting one of the
    # values first avoids that. XLA fuses the subtraction; TensorFlow's own kernels are stable and would pay for it.
    shift = tf.stop_gradient(x[:1, :1, :1]) if compiled_by_xla() else None
    out = _fused(x if shift is None else x - shift, gamma, beta, [], [], epsilon, is_training=True)
    mean = out.batch_mean if shift is None else out.batch_mean + tf.cast(shift[0, 0, 0], out.batch_mean.dtype)
    # The kernel returns the unbiased variance; Keras and SimCLR's code track the biased one.
    return out.y, mean, out.batch_variance * (tf.maximum(rows - 1.0, 1.0) / rows)


def _normalize_across_replicas(x, gamma, beta, epsilon):
    """Outputs, and the mean and variance of all replicas' values."""

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        _, local_mean, local_variance = _moments(x, gamma, beta, epsilon)
        moments = all_stack(tf.stack([local_mean, local_variance]))  # (R, 2, C)
        mean = tf.reduce_mean(moments[:, 0], axis=0)
        variance = tf.reduce_mean(moments[:, 1] + tf.square(moments[:, 0] - mean), axis=0)
        y = _fused(x, gamma, beta, mean, variance, epsilon, is_training=False).y

        def gradient(dy, _dmean, _dvariance):
            dx, dgamma, dbeta = _fixed_gradient(dy, x, gamma, mean, variance, epsilon)
            # The gradient through the statistics, -gamma / std * (mean(dy) + normalized x * mean(dy * normalized x)), is
            # linear in x for each channel.
            mean_dy, mean_dy_x = tf.unstack(all_sum(tf.stack([dbeta, dgamma])) / (_rows(x) * num_replicas()))
            inverse_std = tf.math.rsqrt(variance + epsilon)
            slope = gamma * tf.square(inverse_std) * mean_dy_x
            through = slope * (tf.cast(x, mean.dtype) - mean) + gamma * inverse_std * mean_dy
            return dx - tf.cast(through, x.dtype), dgamma, dbeta

        return (y, mean, variance), gradient

    return normalize(x, gamma, beta)
