"""Fine-tuning on few labels, and the baseline that sees the same labels without pretraining (paper, section 6)."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simclr_tf import encoders
from simclr_tf.config import Config, Finetune, Supervised, Trained
from simclr_tf.data.pipeline import ordered_batches
from simclr_tf.data.source import Split
from simclr_tf.data.splits import labeled_part
from simclr_tf.distribution import is_chief
from simclr_tf.evaluation.probe import judge
from simclr_tf.evaluation.probing import judged_splits, keep, labels_of, open_data
from simclr_tf.preflight import data_source, results_folder
from simclr_tf.tasks.classify import classify
from simclr_tf.training import engine

STEPS = 1000  # at least, where the paper's epochs would give less


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
    dataset = open_data(name, data_dir, config, lambda: load(0).input_shape[1], run_dir)
    train, validation, test = judged_splits(dataset, config.data.validation_fraction, config.training.seed)
    part = labeled_part(train, settings.label_fraction, settings.seed)
    counts = np.unique(labels_of(part, name), return_counts=True)[1]
    if settings.label_fraction < 1 and min(counts) < max(counts) and is_chief(strategy):
        print(f"note: {len(part)} of {len(train)} images, since some classes have fewer than {max(counts)}", flush=True)
    folder = results_folder(run_dir, settings.layer, (name, data_dir), config.data) / settings.name(mode)
    training = training_settings(config, settings, len(part), folder, strategy.num_replicas_in_sync)
    # With few images, an epoch is a step or two, and the validation after it would take most of the time.
    watched = validation if len(part) >= len(validation) else None
    classes, make_encoder = dataset.num_classes, partial(load, settings.layer)
    model, began_with, chief = classify(training, strategy, part, watched, classes, make_encoder)
    if not chief:
        return None
    hyper_parameters = {"learning_rate": settings.learning_rate, "weight_decay": settings.weight_decay,
                        "epochs": training.training.epochs, "batch_size": training.training.batch_size}  # fmt: skip
    result = judge(logits(model, test), labels_of(test, name), len(part), hyper_parameters)
    about = {"mode": mode, "dataset": dataset.name, "data_dir": str(Path(data_dir).resolve()) if data_dir else None,
             "label_fraction": settings.label_fraction}  # fmt: skip
    return keep(about, result, {}, dataset, model.encoder, began_with, folder)


def start(config: Config, settings: Trained) -> tf.distribute.Strategy:
    """The strategy of a protocol that trains, made before anything is read: TensorFlow must not have begun by then."""
    changed = _on_devices(config.replace("training", seed=settings.seed), settings)
    return engine.start(changed.training, changed.hardware)


def _on_devices(config: Config, settings: Trained) -> Config:
    return config.replace("hardware", strategy=settings.strategy, logical_cpus=1, data_service=None)


def training_settings(config: Config, settings: Finetune, images: int, folder: Path, replicas: int = 1) -> Config:
    """The settings of the training, made of those of the pretraining and of the protocol.

    Args:
        config: Settings of the pretraining.
        settings: Settings of the protocol.
        images: How many images are learned from.
        folder: Folder of the training.
        replicas: Replicas, of whose number the batch is a multiple.
    """
    batch = min(settings.batch_size, images) // replicas * replicas or images
    usual = 60 if settings.label_fraction <= 0.01 else 30  # the paper's (appendix B.5)
    epochs = settings.epochs or max(usual, math.ceil(STEPS / (images // batch)))
    views = (
        {} if isinstance(settings, Supervised) else {"augmentations": "crop,flip", "blur": False, "asymmetric": False}
    )
    changed = config.replace("augmentation", **views)
    changed = changed.replace(
        "optimization", optimizer="sgd", learning_rate=settings.learning_rate, lr_scaling="linear", warmup_epochs=0.0,
        weight_decay=settings.weight_decay, coupled_decay=True, momentum=0.9,
    )  # fmt: skip
    changed = changed.replace(
        "training", batch_size=batch, epochs=epochs, resolutions=None, max_steps=None, seed=settings.seed
    )
    return _on_devices(changed, settings).replace(
        "output", run_dir=str(folder), resume=True, overwrite=False, checkpoint_epochs=max(1, epochs // 10),
        profile=False, max_bad_files="0",
    )  # fmt: skip


def logits(model: keras.Model, split: Split) -> np.ndarray:
    """Logits of every image of a split, float32 (N, classes)."""
    return np.concatenate([model(images, training=False).numpy() for images in ordered_batches(split, 256)])
