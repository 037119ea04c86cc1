"""The story of a probe: find the data, load the encoder, hold out, extract, probe, compare, write, print."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf import data, encoders
from simclr_tf.config import Config, Data, Probe
from simclr_tf.data.source import Dataset, Split, hold_out
from simclr_tf.evaluation import report
from simclr_tf.evaluation.features import extract, pixels, weights_digest
from simclr_tf.evaluation.probe import Features, Labeled, Result
from simclr_tf.preflight import data_source

VALIDATION_FRACTION = 0.1  # of the labeled images, where the pretraining held none out


def judge_run(
    mode: str, probe: Callable[[Features], Result], run_dir: Path, config: Config, settings: Probe
) -> dict[str, Any]:
    """Judges the encoder of a run on its own data, or on that of the settings; the record is that of `judge_encoder`.

    Raises:
        ValueError: If there is no checkpoint, or the data does not fit the encoder.
    """
    name, data_dir = data_source(settings, config.data)
    encoder = encoders.load_encoder(run_dir, settings.layer)
    # Only a folder's images can be resized; where the run's were not, the encoder tells the size.
    size = (config.data.image_size or encoder.input_shape[1]) if name == "folder" else None
    dataset = data.load(name, data_dir, size, config.training.seed)
    for note in dataset.notes:
        print(f"note: {note}")
    return judge_encoder(
        mode,
        probe,
        encoder,
        partial(encoders.random_encoder, run_dir, settings.layer),
        dataset,
        config.data.validation_fraction or VALIDATION_FRACTION,
        config.training.seed,
        results_folder(run_dir, settings.layer, (name, data_dir), config.data),
        settings.baselines,
        str(Path(data_dir).resolve()) if data_dir else None,
    )


def results_folder(run_dir: Path, layer: int, judged_on: tuple[str, str | None], pretrained_on: Data) -> Path:
    """Where the results go: results on other data than the run's get a folder of their own."""
    folder, (name, data_dir) = run_dir / "evaluation" / (f"layer{layer}" if layer else ""), judged_on
    if name == "folder" and data_dir != pretrained_on.data_dir:
        path = Path(data_dir or "").resolve()
        digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()
        return folder / f"{path.name}-{digest[:6]}"  # two folders may have one name
    return folder if name == pretrained_on.dataset else folder / name


def judge_encoder(
    mode: str,
    probe: Callable[[Features], Result],
    encoder: keras.Model,
    make_random_encoder: Callable[[], keras.Model],
    dataset: Dataset,
    validation_fraction: float,
    seed: int,
    out_dir: str | Path,
    baselines: bool = False,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Judges a frozen encoder by a probe, writes the record and prints it.

    Args:
        mode: Name of the probe, which the files are named after.
        probe: Function from features to a result.
        encoder: Model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D); not changed.
        make_random_encoder: Function that returns the same architecture at its initial weights; called only for the
            baselines.
        dataset: Labeled training and test images.
        validation_fraction: Part of the training images on which to choose hyperparameters. With the seed and fraction
            of the pretraining, they are the images that it held out.
        seed: Seed that decides which images those are.
        out_dir: Folder for `<mode>.json` and `<mode>_confusion.png`.
        baselines: Whether to judge the random encoder and raw pixels, too.
        data_dir: Folder that the dataset was read from, for the record.

    Returns:
        The record: `mode`, `dataset`, `data_dir`, `top1` and `top5` (fractions; top5 None with five classes or fewer),
        `n_train`, `n_test`, `hyper_parameters`, `baselines` (from a name to the last five), `encoder_parameters` (their
        number, moving statistics included), `encoder_digest_before`, `encoder_digest_after`.

    Raises:
        ValueError: If the encoder cannot be judged on the data.
        RuntimeError: If the evaluation changed the encoder.
    """
    splits = _splits(dataset, validation_fraction, seed)
    class_names = dataset.class_names or ()

    def judge(features_of: Callable[[Split], np.ndarray]) -> Result:
        train, validation, test = (Labeled(features_of(split), _labels(split, dataset.name)) for split in splits)
        return probe(Features(train, validation, test, len(class_names)))

    before = weights_digest(encoder)
    result = judge(partial(extract, encoder))
    compared = {}
    if baselines:
        compared["random initialization"] = judge(partial(extract, make_random_encoder())).to_dict()
        compared["raw pixels"] = judge(pixels).to_dict()
    after = weights_digest(encoder)
    if before != after:
        raise RuntimeError(f"The evaluation changed the encoder that it judges. Received: {before}, then {after}")
    record = {
        "mode": mode,
        "dataset": dataset.name,
        "data_dir": data_dir,
        **result.to_dict(),
        "baselines": compared,
        "encoder_parameters": encoder.count_params(),
        "encoder_digest_before": before,
        "encoder_digest_after": after,
    }
    path = report.write(record, _labels(splits[-1], dataset.name), result.predictions, class_names, out_dir)
    report.show(record, path)
    return record


def _splits(dataset: Dataset, validation_fraction: float, seed: int) -> tuple[Split, Split, Split]:
    """The training, validation and test splits, all of them labeled and fit for judging."""
    known = np.unique(_labels(dataset.train, dataset.name))
    if dataset.test is None or not len(dataset.test):
        raise ValueError(f"Judging needs a test split. Received: {dataset.name} without one")
    if len(known) < 2:
        raise ValueError(f"Judging needs images of at least two classes. Received: {len(known)} in {dataset.name}")
    unknown = np.setdiff1d(_labels(dataset.test, dataset.name), known)
    if len(unknown):
        names = [name for label, name in enumerate(dataset.class_names or ()) if label in unknown]
        raise ValueError(f"The test split has classes without a training image in {dataset.name}. Received: {names}")
    return *hold_out(dataset.train, validation_fraction, seed), dataset.test


def _labels(split: Split, name: str) -> np.ndarray:
    if split.labels is None:
        raise ValueError(f"Judging needs labeled images, such as one folder per class. Received: {name} without labels")
    return split.labels
