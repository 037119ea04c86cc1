"""What the protocols that train a classifier have in common: devices, settings of the training, and its logits."""

import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.config import Config, Finetune, Supervised, Trained
from simclr_tf.data.pipeline import ordered_batches
from simclr_tf.data.source import Split
from simclr_tf.training import engine

STEPS = 1000  # at least, where the paper's epochs would give less


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
