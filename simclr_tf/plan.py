"""How many steps a run takes, and the learning rate at each."""

import dataclasses

import keras

from simclr_tf.config import Config
from simclr_tf.optimizers import peak_learning_rate, warmup_cosine


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers that settings and data give together.

    Attributes:
        train_images: images to train on.
        validation_images: images held out.
        steps_per_epoch: whole batches in an epoch.
        validation_batch: the batch of the training, or as many images as all replicas can share; 0 if that is none.
        first_epoch: epochs that are done already.
        peak: learning rate after the warm-up.
        rate: learning rate at each step.
    """

    train_images: int
    validation_images: int
    steps_per_epoch: int
    validation_batch: int
    first_epoch: int
    peak: float
    rate: keras.optimizers.schedules.LearningRateSchedule


def make_plan(config: Config, train_images: int, validation_images: int, replicas: int, first_epoch: int = 0) -> Plan:
    """The plan of a run.

    Raises:
        ValueError: when the batch does not go with the images or the replicas.
    """
    batch_size = config.training.batch_size
    if batch_size % replicas or batch_size < 2 * replicas:
        raise ValueError(
            f"--batch_size must be a multiple of the {replicas} replicas, with two images or more for each. "
            f"Received: {batch_size}"
        )
    if batch_size > train_images:
        raise ValueError(
            f"--batch_size must not exceed the {train_images} images that are left to train on. Received: {batch_size}"
        )
    steps = train_images // batch_size
    peak = peak_learning_rate(config.optimization, batch_size)
    warmup = round(config.optimization.warmup_epochs * steps)
    rate = warmup_cosine(peak, warmup, config.training.epochs * steps)
    validation_batch = min(batch_size, validation_images // replicas * replicas)
    return Plan(train_images, validation_images, steps, validation_batch, first_epoch, peak, rate)
