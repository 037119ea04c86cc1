"""LARS: layer-wise adaptive rate scaling."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("simclr_tf")
class LARS(keras.optimizers.Optimizer):
    """Momentum SGD that scales the step of each layer by the norm of its weights over the norm of its gradient.

    For a weight w with gradient g, momentum buffer v and learning rate lr:

        g <- g + weight_decay * w
        trust <- trust_coefficient * |w| / |g|      (1 where either norm is 0)
        v <- momentum * v + lr * trust * g
        w <- w - v

    Vectors (biases, scales and offsets of batch norms) are not decayed, and their trust is 1. SimCLR's code excludes the
    same variables by name ('batch_normalization' and 'bias' in tf2/model.py).

    Reference: You, Gitman and Ginsburg, 2017, https://arxiv.org/abs/1708.03888, algorithm 1, with the denominator of
    SimCLR's tf2/lars_optimizer.py: |g + weight_decay * w| instead of |g| + weight_decay * |w|.

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        momentum: Momentum, in [0, 1).
        weight_decay: Coefficient of the L2 penalty, 0 or more.
        trust_coefficient: The paper's eta, more than 0.
        name: Name of the optimizer.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If a value is outside its range.
    """

    def __init__(
        self, learning_rate=1.0, momentum: float = 0.9, weight_decay: float = 0.0,
        trust_coefficient: float = 0.001, name: str = "lars", **kwargs,
    ):  # fmt: skip
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {momentum}")
        if weight_decay < 0.0 or trust_coefficient <= 0.0:
            raise ValueError(
                "`weight_decay` must not be negative, and `trust_coefficient` must be positive. "
                f"Received: {weight_decay} and {trust_coefficient}"
            )
        self.momentum = momentum
        # Named weight_decay, it would make Keras apply its own, decoupled decay.
        self.l2 = weight_decay
        self.trust_coefficient = trust_coefficient

    def build(self, variables):
        """Creates a momentum buffer for each variable, and decides which variables are adapted."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.adapted = [len(variable.shape) > 1 for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        index = self._get_variable_index(variable)
        gradient = tf.cast(gradient, variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        if self.adapted[index]:
            if self._use_weight_decay(variable):
                gradient += self.l2 * variable
            rate *= self._trust(variable, gradient)
        velocity = self.momentum * self.momentums[index] + rate * gradient
        self.assign(self.momentums[index], velocity)
        self.assign_sub(variable, velocity)

    def _trust(self, weight, gradient):
        weight_norm, gradient_norm = tf.norm(weight), tf.norm(gradient)
        ratio = self.trust_coefficient * weight_norm / tf.where(gradient_norm > 0.0, gradient_norm, 1.0)
        return tf.where((weight_norm > 0.0) & (gradient_norm > 0.0), ratio, 1.0)

    def get_config(self):
        """The constructor's arguments."""
        mine = {"momentum": self.momentum, "weight_decay": self.l2, "trust_coefficient": self.trust_coefficient}
        return super().get_config() | mine
