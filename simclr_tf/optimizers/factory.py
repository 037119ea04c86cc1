"""The learning-rate schedule and the optimizer that the settings describe."""

import math

import keras

from simclr_tf.config import Optimization
from simclr_tf.optimizers.lars import LARS
from simclr_tf.optimizers.loss_scale import LossScale
from simclr_tf.optimizers.sgd import CoupledSGD

SCALINGS = {
    "linear": lambda base, batch_size: base * batch_size / 256,
    "sqrt": lambda base, batch_size: base * math.sqrt(batch_size),
    "none": lambda base, batch_size: base,
}


def peak_learning_rate(settings: Optimization, batch_size: int) -> float:
    """The learning rate after warm-up (paper, section 2.3 and appendix B.1).

    Args:
        settings: Base rate, and the rule by which it grows with the batch.
        batch_size: Number of images of the global batch.
    """
    return SCALINGS[settings.lr_scaling](settings.learning_rate, batch_size)


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from 0, then a cosine decay to 0, without restarts (paper, section 2.3).

    Args:
        peak: Learning rate after the warm-up.
        warmup_steps: Steps of the warm-up; 0 for none.
        total_steps: Steps of the whole run, warm-up included.
    """
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(peak, total_steps)
    decay_steps = max(1, total_steps - warmup_steps)
    return keras.optimizers.schedules.CosineDecay(0.0, decay_steps, warmup_target=peak, warmup_steps=warmup_steps)


def _sgd(rate, settings: Optimization):
    if settings.coupled_decay:
        return CoupledSGD(rate, momentum=settings.momentum, l2=settings.weight_decay)
    return keras.optimizers.SGD(rate, momentum=settings.momentum, weight_decay=settings.weight_decay, name="sgd")


# Each makes an optimizer from a learning rate or schedule and the settings. With a name of its own, its variables keep
# their paths, by which a checkpoint is restored, when a process trains several times.
OPTIMIZERS = {
    "lars": lambda rate, settings: LARS(rate, momentum=settings.momentum, weight_decay=settings.weight_decay),
    "sgd": _sgd,
    "adamw": lambda rate, settings: keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, name="adam_w"),
    "lamb": lambda rate, settings: keras.optimizers.Lamb(rate, weight_decay=settings.weight_decay, name="lamb"),
}


def make_optimizer(settings: Optimization, rate, variables, precision: str = "float32") -> keras.optimizers.Optimizer:
    """The optimizer, built for these variables.

    Keras' own optimizers decay weights apart from the gradient, LARS and coupled SGD by an L2 penalty; all leave
    vectors (biases, batch-norm parameters) undecayed.

    Args:
        settings: Name of the optimizer, momentum and weight decay.
        rate: Learning rate, a float or `LearningRateSchedule`.
        variables: Trainable variables of the model.
        precision: Dtype policy; "mixed_float16" scales the loss so that small gradients do not vanish.

    Raises:
        ValueError: If the optimizer is unknown.
    """
    if settings.optimizer not in OPTIMIZERS:
        raise ValueError(f"Expected an optimizer of {sorted(OPTIMIZERS)}. Received: {settings.optimizer}")
    return prepared(OPTIMIZERS[settings.optimizer](rate, settings), variables, precision)


def prepared(optimizer: keras.optimizers.Optimizer, variables, precision: str) -> keras.optimizers.Optimizer:
    """An optimizer that leaves vectors undecayed and scales the loss where the precision needs it, built for the variables.

    Args:
        optimizer: Optimizer that is not built yet.
        variables: Trainable variables of the model.
        precision: Dtype policy; "mixed_float16" scales the loss so that small gradients do not vanish.
    """
    vectors = [variable for variable in variables if len(variable.shape) <= 1]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    if precision == "mixed_float16":
        optimizer = LossScale(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer
