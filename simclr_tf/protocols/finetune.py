"""Fine-tuning on few labels, and the baseline that sees the same labels without pretraining (paper, section 6)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf import encoders
from simclr_tf.config import Config, Finetune, Supervised
from simclr_tf.data.splits import labeled_part, mixed
from simclr_tf.distribution import is_chief
from simclr_tf.evaluation.probe import judge
from simclr_tf.evaluation.probing import judged_splits, keep, labels_of, open_data, place
from simclr_tf.places import data_source, results_folder
from simclr_tf.protocols.training import logits, start, training_settings
from simclr_tf.tasks.classify import classify


def run(run_dir: Path, config: Config, settings: Finetune) -> dict[str, Any] | None:
    """Fine-tunes the encoder of a run with a part of the labels; see `train_and_judge`."""
    return train_and_judge("finetune", run_dir, config, settings, partial(encoders.load_encoder, run_dir))


def run_supervised(run_dir: Path, config: Config, settings: Supervised) -> dict[str, Any] | None:
    """Trains the network of a run from scratch with a part of the labels; see `train_and_judge`."""
    load = partial(encoders.random_encoder, run_dir, seed=settings.seed)
    return train_and_judge("supervised", run_dir, config, settings, load)


def train_and_judge(
    mode: str, run_dir: Path, config: Config, settings: Finetune, load: Callable[[int], keras.Model]
) -> dict[str, Any] | None:
    """Trains all layers with a part of the labels, and judges the classifier on the test images.

    The folder of the results holds the training, too, with checkpoints: a training that was interrupted goes on.

    Args:
        mode: Name of the protocol.
        run_dir: Folder of the pretraining run.
        config: Its settings.
        settings: Those of the protocol.
        load: Function from a layer to the encoder to start from.

    Returns:
        The record, as `probing.judge_encoder` writes it, with `label_fraction`; None on workers other than
        the chief.

    Raises:
        ValueError: If data, labels or settings do not fit.
        FloatingPointError: If the loss is no longer finite.
    """
    strategy = start(config, settings)
    name, data_dir = data_source(settings, config.data)
    dataset = open_data(name, data_dir, config, run_dir)
    train, validation, test = judged_splits(dataset, config.data.validation_fraction, config.training.seed)
    part = labeled_part(train, settings.label_fraction, settings.seed)
    counts = np.unique(labels_of(part, name), return_counts=True)[1]
    if settings.label_fraction < 1 and min(counts) < max(counts) and is_chief(strategy):
        print(f"note: {len(part)} of {len(train)} images, since some classes have fewer than {max(counts)}", flush=True)
    folder = results_folder(run_dir, settings.layer, (name, data_dir), config.data) / settings.name(mode)
    training = training_settings(config, settings, len(part), folder, strategy.num_replicas_in_sync)
    # With few images, an epoch is a step or two, and the validation after it would take most of the time.
    watched = mixed(validation, settings.seed) if len(part) >= len(validation) else None
    classes, make_encoder = dataset.num_classes, partial(load, settings.layer)
    model, began_with, chief = classify(training, strategy, part, watched, classes, make_encoder)
    if not chief:
        return None
    hyper_parameters = {"learning_rate": settings.learning_rate, "weight_decay": settings.weight_decay,
                        "epochs": training.training.epochs, "batch_size": training.training.batch_size}  # fmt: skip
    result = judge(logits(model, test), labels_of(test, name), len(part), hyper_parameters)
    about = {"mode": mode, "dataset": dataset.name, "data_dir": place(data_dir),
             "label_fraction": settings.label_fraction}  # fmt: skip
    return keep(about, result, {}, dataset, model.encoder, began_with, folder)
