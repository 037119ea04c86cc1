"""SGD with momentum whose weight decay is an L2 penalty, as most published recipes mean it."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("simclr_tf")
class CoupledSGD(keras.optimizers.SGD):
    """Momentum SGD with the decay added to the gradient, where it passes through the momentum.

        v <- momentum * v - lr * (g + l2 * w)
        w <- w + v

    Keras' own SGD shrinks weights apart from the gradient, w <- w - lr * weight_decay * w; in the long run the coupled
    form shrinks them by 1 / (1 - momentum) times as much, ten times at momentum 0.9. This is how PyTorch's SGD decays.
    Vectors (biases, the scale and offset of batch norms) are not decayed.

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        momentum: Momentum, in [0, 1).
        l2: Coefficient of the penalty l2 / 2 * |w|^2.
        name: Name of the optimizer.
        **kwargs: Arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.01, momentum: float = 0.0, l2: float = 0.0, name: str = "sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, momentum=momentum, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        if len(variable.shape) > 1 and self._use_weight_decay(variable):
            gradient = tf.cast(gradient, variable.dtype) + self.l2 * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        """The constructor's arguments."""
        return super().get_config() | {"l2": self.l2}
