"""What a run is about to do, in a few lines."""

import dataclasses
from typing import Any

import keras

from simclr_tf import distribution
from simclr_tf.config import Config, Loss, Views
from simclr_tf.data.source import Dataset
from simclr_tf.inspect.memory import memory_line
from simclr_tf.training.plan import Plan


def summary(config: Config, dataset: Dataset, plan: Plan, model: keras.Model) -> str:
    """The resolved recipe, a line a subject; the model is a compiled `SimCLR`, its optimizer built."""
    network, (height, width, _) = config.network, dataset.train.image_shape
    lines = {
        "encoder": f"{network.encoder}, width {network.width:g}, {model.encoder.count_params() / 1e6:.2f} M parameters, "
        f"{height} x {width} pixels to {model.encoder.output_shape[-1]} dimensions; {network.projection} head, "
        f"{model.head.count_params() / 1e6:.2f} M",
        "data": f"{dataset.name}: {plan.train_images} images to train on, {plan.validation_images} for validation, "
        f"{len(dataset.test) if dataset.test else 'none'} for testing" + _classes(dataset.class_names),
        "views": f"{config.augmentation.augmentations}, color strength {config.augmentation.color_strength:g}"
        + _others(config.augmentation, Views(), "augmentations", "color_strength"),
        "loss": f"{config.objective.loss} of {config.objective.similarity} similarity, temperature "
        f"{config.objective.temperature:g}" + _others(config.objective, Loss(), "loss", "similarity", "temperature"),
        "recipe": f"{config.optimization.optimizer}, learning rate {plan.peak:g} after "
        f"{plan.warmup_epochs:g} epochs of warm-up, weight decay {config.optimization.weight_decay:g}, "
        f"batch {config.training.batch_size}, seed {config.training.seed}",
        "steps": _steps(config, plan),
        "devices": f"{distribution.describe(model.distribute_strategy)}, {config.training.precision}",
        "memory": memory_line(model, config.training.batch_size),
    }
    if 0 < plan.validation_batch < config.training.batch_size:
        lines["note"] = (
            f"val_loss is taken over batches of {plan.validation_batch} images instead of "
            f"{config.training.batch_size}: having fewer negatives, it is expected to be lower than loss"
        )
    if plan.warmup_epochs != config.optimization.warmup_epochs:
        lines["warm-up"] = (
            f"cut to {plan.warmup_epochs:g} epochs, a tenth of the run: warmup_epochs="
            f"{config.optimization.warmup_epochs:g} is no shorter than it"
        )
    return "\n".join(f"{subject:8} {line}" for subject, line in lines.items())


def _classes(names: tuple[str, ...] | None, shown: int = 10) -> str:
    if not names:
        return ", no labels"
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return f"; {len(names)} classes: {', '.join(names[:shown])}{more}"


def _steps(config: Config, plan: Plan) -> str:
    epochs = config.training.epochs
    text = f"{plan.steps_per_epoch} an epoch, {epochs} epoch{'s' * (epochs > 1)}"
    if plan.first_epoch or plan.first_step:
        text += f", continued after epoch {plan.first_epoch}" + (
            f" and {plan.first_step} step{'s' * (plan.first_step > 1)}" * bool(plan.first_step)
        )
    if config.training.max_steps:
        text += f", stopped after step {config.training.max_steps}"
    return text


def _others(settings: Any, defaults: Any, *shown: str) -> str:
    """The other settings that are not at their defaults, like `, blur`."""
    text = ""
    for name, value in dataclasses.asdict(settings).items():
        if name not in shown and value != getattr(defaults, name):
            text += f", {name}" if value is True else f", {name} {value}"
    return text
