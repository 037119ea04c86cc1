"""How many steps a run takes, and the learning rate at each."""

import dataclasses

import keras

from simclr_tf.config import Optimization, Training
from simclr_tf.optimizers import peak_learning_rate, warmup_cosine


@dataclasses.dataclass(frozen=True)
class Plan:
    """The numbers that settings and data give together."""

    train_images: int
    validation_images: int
    steps_per_epoch: int  # whole batches
    validation_batch: int  # that of the training, or as many images as all replicas can share; 0 where there are none
    first_epoch: int  # epochs that are done already
    first_step: int  # steps of the next one that are
    warmup_epochs: float
    peak: float  # learning rate after the warm-up
    rate: keras.optimizers.schedules.LearningRateSchedule  # by step


def make_plan(
    training: Training, optimization: Optimization, train_images: int, validation_images: int, replicas: int,
    first_epoch: int = 0, first_step: int = 0,
) -> Plan:  # fmt: skip
    """The plan of a run.

    A warm-up that is as long as the run or longer, as when a recipe is tried for an epoch, is cut to a tenth of it.

    Args:
        training: Batch size and epochs.
        optimization: Learning rate, its scaling, and the epochs of the warm-up.
        train_images: Number of images to learn from.
        validation_images: Number of images for the validation loss; 0 for none.
        replicas: Number of replicas that share a batch.
        first_epoch: Epochs that are done already.
        first_step: Steps of the next one that are.

    Raises:
        ValueError: If the batch does not fit the images or the replicas, or an epoch has fewer steps than are done.
    """
    batch_size = training.batch_size
    if batch_size % replicas or batch_size < 2 * replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the {replicas} replicas, with two images or more for each. "
            f"Received: {batch_size}"
        )
    if batch_size > train_images:
        raise ValueError(
            f"`batch_size` must not exceed the {train_images} images that are left to train on. Received: {batch_size}"
        )
    steps = train_images // batch_size
    peak = peak_learning_rate(optimization, batch_size)
    shorter = training.epochs <= optimization.warmup_epochs  # or the rate would never fall
    warmup_epochs = training.epochs / 10 if shorter else optimization.warmup_epochs
    rate = warmup_cosine(peak, round(warmup_epochs * steps), training.epochs * steps)
    validation_batch = min(batch_size, validation_images // replicas * replicas)
    if first_step > steps:
        raise ValueError(f"An epoch has {steps} steps. Received: a checkpoint after {first_step} of them")
    return Plan(
        train_images, validation_images, steps, validation_batch, first_epoch, first_step, warmup_epochs, peak, rate
    )
