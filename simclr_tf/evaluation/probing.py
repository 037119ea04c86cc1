"""The story of a probe: find the data, load the encoder, hold out, extract, probe, compare, write, print."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf import data, encoders
from simclr_tf.config import Config, Probe
from simclr_tf.data.source import Dataset, Split
from simclr_tf.data.splits import hold_out, learned_from
from simclr_tf.data.tfrecord import absolute
from simclr_tf.evaluation import report
from simclr_tf.evaluation.features import extract, extract_once
from simclr_tf.evaluation.probe import Features, Labeled, Result
from simclr_tf.places import data_source, results_folder
from simclr_tf.training import checkpoints

VALIDATION_FRACTION = 0.1  # of the labeled images, where the pretraining held none out


def judge_run(
    mode: str, probe: Callable[..., Result], run_dir: Path, config: Config, settings: Probe, on_images: bool = False
) -> dict[str, Any]:
    """Judges the encoder of a run on its own data, or on that of the settings; the record is that of `judge_encoder`.

    Raises:
        ValueError: If there is no checkpoint, or the data does not fit the encoder.
    """
    name, data_dir = data_source(settings, config.data)
    encoder = encoders.load_encoder(run_dir, settings.layer)
    dataset = open_data(name, data_dir, config, run_dir)
    return judge_encoder(
        mode,
        probe,
        encoder,
        partial(encoders.random_encoder, run_dir, settings.layer),
        dataset,
        config.data.validation_fraction,
        config.training.seed,
        results_folder(run_dir, settings.layer, (name, data_dir), config.data),
        settings.baselines,
        place(data_dir),
        on_images,
        features_folder(run_dir, settings.layer),
    )


def open_data(name: str, data_dir: str | None, config: Config, run_dir: Path | None = None) -> Dataset:
    """The data set to judge on, its notes printed.

    Args:
        name: Name of the data set.
        data_dir: Its folder.
        config: Settings of the run.
        run_dir: Folder of the run, to note whether its own images have changed since it learned from them.
    """
    dataset = data.load(name, data_dir, data.size_for(name, config.data.side), config.training.seed)
    here, learned = (folder and os.path.realpath(folder) for folder in (data_dir, config.data.data_dir))
    own = (name, here) == (config.data.dataset, learned)
    for note in [*dataset.notes, *(_changed(dataset, config, run_dir) if own and run_dir else ())]:
        print(f"note: {note}")
    return dataset


def place(data_dir: str | None) -> str | None:
    """The folder of a data set as a record names it."""
    return absolute(data_dir) if data_dir else None


def _changed(dataset: Dataset, config: Config, run_dir: Path) -> list[str]:
    """A note if the run learned from other images than its settings now name."""
    meta = checkpoints.loaded(run_dir / "checkpoints").meta
    if "classes" in meta:  # a protocol's training, which learned from some of the labels
        return []
    train, _ = learned_from(dataset.train, config.data, config.training.seed)
    here = {"count": len(train), "fingerprint": train.images.fingerprint()}
    before = meta.get("images", here)  # a GPU bundle's does not say
    if before == here:
        return []
    return [
        f"the run learned from {before['count']} other images than the {here['count']} that are here now, so it may have "
        "seen those to judge on"
    ]


def features_folder(run_dir: Path, layer: int) -> Path:
    """Where the features of a run's encoder are kept."""
    return run_dir / "features" / (f"layer{layer}" if layer else "h")


def classifier_file(folder: Path) -> Path:
    """Where the linear probe whose results are in a folder keeps its classifier."""
    return folder / "linear_classifier.npz"


def judge_encoder(
    mode: str,
    probe: Callable[..., Result],
    encoder: keras.Model,
    make_random_encoder: Callable[[], keras.Model],
    dataset: Dataset,
    validation_fraction: float,
    seed: int,
    out_dir: str | Path,
    baselines: bool = False,
    data_dir: str | None = None,
    on_images: bool = False,
    keep_in: Path | None = None,
) -> dict[str, Any]:
    """Judges a frozen encoder by a probe, writes the record and prints it.

    Args:
        mode: Name of the probe, which the files are named after.
        probe: Function from `Features` to a `Result`, or of an encoder and images, as in `linear_sgd`.
        encoder: Model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D); not changed.
        make_random_encoder: Function that returns the same architecture at its initial weights; called only for the
            baselines.
        dataset: Labeled training and test images.
        validation_fraction: Part of the training images on which to choose hyperparameters. With the seed and fraction
            of the pretraining, they are the images that it held out; a tenth where that is 0.
        seed: Seed that decides which images those are.
        out_dir: Folder for `<mode>.json` and `<mode>_confusion.png`.
        baselines: Whether to judge the random encoder and raw pixels, too.
        data_dir: Folder that the dataset was read from, for the record.
        on_images: Whether the probe takes the encoder; the training, validation, all of these, and test images; and the
            number of classes, instead of `Features`.
        keep_in: Folder to keep the encoder's features in, for the next probe.

    Returns:
        The record: `mode`, `dataset`, `data_dir`, `class_names`, the plain values of a `Result`, `baselines` (from a name
        to the same values), `encoder_parameters` (their number, moving statistics included), `encoder_digest_before`,
        `encoder_digest_after`.

    Raises:
        ValueError: If the encoder cannot be judged on the data.
        RuntimeError: If the evaluation changed the encoder.
    """
    splits = judged_splits(dataset, validation_fraction, seed)
    class_names = dataset.class_names or ()

    def judge(model: keras.Model) -> Result:
        if on_images:
            train, validation, test = splits
            return probe(model, train, validation, dataset.train, test, len(class_names))
        read = partial(extract_once, folder=keep_in) if keep_in and model is encoder else extract
        return probe(features_of(model, splits, dataset, read))

    before = encoders.weights_digest(encoder)
    result = judge(encoder)
    compared = {}
    if baselines:
        compared["random initialization"] = judge(make_random_encoder()).to_dict()
        compared["raw pixels"] = judge(_pixels(dataset.train.image_shape)).to_dict()
    after = encoders.weights_digest(encoder)
    if before != after:
        raise RuntimeError(f"The evaluation changed the encoder that it judges. Received: {before}, then {after}")
    about = {"mode": mode, "dataset": dataset.name, "data_dir": data_dir}
    return keep(about, result, compared, dataset, encoder, before, out_dir)


def keep(
    about: dict[str, Any], result: Result, baselines: dict[str, Any], dataset: Dataset, encoder: keras.Model,
    digest_before: str, out_dir: str | Path,
) -> dict[str, Any]:  # fmt: skip
    """Writes and prints the record of a result on a data set's test images, and returns it.

    Args:
        about: What was judged: `mode`, `dataset`, `data_dir`, and whatever else there is to say.
        result: The result.
        baselines: Results to compare it with, by name.
        dataset: Data set, whose test images were judged on.
        encoder: The encoder, as it is afterwards.
        digest_before: Digest of its weights before.
        out_dir: Folder for the files.
    """
    class_names = dataset.class_names or ()
    record = {
        **about,
        "class_names": list(class_names),
        **result.to_dict(),
        "baselines": baselines,
        "encoder_parameters": encoder.count_params(),
        "encoder_digest_before": digest_before,
        "encoder_digest_after": encoders.weights_digest(encoder),
    }
    test = dataset.test or dataset.train
    path = report.write(record, labels_of(test, dataset.name), result.predictions, class_names, out_dir)
    report.show(record, path)
    return record


def judged_splits(dataset: Dataset, validation_fraction: float, seed: int) -> tuple[Split, Split, Split]:
    """The training, validation and test splits, all of them labeled and fit for judging.

    Args:
        dataset: Labeled training and test images.
        validation_fraction: Part of the training images that the pretraining held out; a tenth where it is 0.
        seed: Seed of the pretraining, which decides which images those are.

    Raises:
        ValueError: If the data cannot be judged on.
    """
    known = np.unique(labels_of(dataset.train, dataset.name))
    if dataset.test is None or not len(dataset.test):
        raise ValueError(f"Judging needs a test split. Received: {dataset.name} without one")
    if len(known) < 2:
        raise ValueError(f"Judging needs images of at least two classes. Received: {len(known)} in {dataset.name}")
    unknown = np.setdiff1d(labels_of(dataset.test, dataset.name), known)
    if len(unknown):
        names = [name for label, name in enumerate(dataset.class_names or ()) if label in unknown]
        raise ValueError(f"The test split has classes without a training image in {dataset.name}. Received: {names}")
    return *hold_out(dataset.train, validation_fraction or VALIDATION_FRACTION, seed), dataset.test


def features_of(
    encoder: keras.Model, splits: Sequence[Split], dataset: Dataset, read: Callable[..., np.ndarray] = extract
) -> Features:
    """What a probe learns from, is tuned on and is judged by.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D).
        splits: Training, validation and test images of the data set, as of `judged_splits`.
        dataset: Data set.
        read: Function of encoder and split to features, float32 (N, D).
    """
    train, validation, test = (Labeled(read(encoder, split), labels_of(split, dataset.name)) for split in splits)
    return Features(train, validation, test, dataset.num_classes)


def labels_of(split: Split, name: str) -> np.ndarray:
    """The labels of a split of the data set `name`; raises ValueError if it has none."""
    if split.labels is None:
        raise ValueError(f"Judging needs labeled images, such as one folder per class. Received: {name} without labels")
    return split.labels


def _pixels(image_shape: tuple[int, int, int]) -> keras.Model:
    """The baseline without an encoder: its features are the pixels."""
    images = keras.Input(image_shape, name="images")
    return keras.Model(images, keras.layers.Flatten()(images), name="pixels")
