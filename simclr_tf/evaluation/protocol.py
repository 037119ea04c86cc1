"""The story of an evaluation: hold out, extract, probe, compare, write, print."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf.data.dataset import Dataset, Split, hold_out
from simclr_tf.evaluation import report
from simclr_tf.evaluation.features import extract, pixels, weights_digest
from simclr_tf.evaluation.knn import knn_probe
from simclr_tf.evaluation.linear import linear_probe
from simclr_tf.evaluation.probe import Features, Labelled, Result

PROBES: dict[str, Callable[[Features], Result]] = {"knn": knn_probe, "linear": linear_probe}


def evaluate(
    mode: str,
    encoder: keras.Model,
    make_random_encoder: Callable[[], keras.Model],
    dataset: Dataset,
    validation_fraction: float,
    seed: int,
    out_dir: str | Path,
    baselines: bool = False,
) -> dict[str, Any]:
    """Judges a frozen encoder by a probe, writes the record and prints it.

    Args:
        mode: one of `PROBES`.
        encoder: float32 images in [0, 1], (B, H, W, C), to float32 (B, D); not changed.
        make_random_encoder: gives the same architecture at its initial weights; called only for the baselines.
        dataset: labelled training and test images.
        validation_fraction: part of the training images to choose hyper-parameters on. With the seed and fraction of
            the pretraining, they are the images that it held out.
        seed: decides which those are.
        out_dir: folder for `<mode>.json` and `<mode>_confusion.png`.
        baselines: also judge the random encoder and raw pixels.

    Returns:
        The record: `mode`, `dataset`, `top1` and `top5` (fractions), `n_train`, `n_test`, `hyper_parameters`,
        `baselines` (name to the last five), `encoder_parameters` (how many, statistics included),
        `encoder_digest_before`, `encoder_digest_after`.

    Raises:
        ValueError: on an unknown mode, or data that the encoder cannot be judged on.
        RuntimeError: if the evaluation changed the encoder.
    """
    if mode not in PROBES:
        raise ValueError(f"The mode must be one of {sorted(PROBES)}. Received: {mode!r}")
    splits = _splits(dataset, validation_fraction, seed)
    class_names = dataset.class_names or ()

    def judge(features_of: Callable[[Split], np.ndarray]) -> Result:
        train, validation, test = (Labelled(features_of(split), _labels(split, dataset.name)) for split in splits)
        return PROBES[mode](Features(train, validation, test, len(class_names)))

    before = weights_digest(encoder)
    result = judge(partial(extract, encoder))
    compared = _baselines(judge, make_random_encoder) if baselines else {}
    after = weights_digest(encoder)
    if before != after:
        raise RuntimeError(f"The evaluation changed the encoder it was to judge. Received: {before}, then {after}")
    record = {
        "mode": mode,
        "dataset": dataset.name,
        **result.to_dict(),
        "baselines": compared,
        "encoder_parameters": encoder.count_params(),
        "encoder_digest_before": before,
        "encoder_digest_after": after,
    }
    path = report.write(record, _labels(splits[-1], dataset.name), result.predictions, class_names, out_dir)
    report.show(record, path)
    return record


def _baselines(
    judge: Callable[[Callable[[Split], np.ndarray]], Result], make_random_encoder: Callable[[], keras.Model]
) -> dict[str, dict[str, Any]]:
    return {
        "random initialisation": judge(partial(extract, make_random_encoder())).to_dict(),
        "raw pixels": judge(pixels).to_dict(),
    }


def _splits(dataset: Dataset, validation_fraction: float, seed: int) -> tuple[Split, Split, Split]:
    """Training, validation and test split, all of them labelled and fit for judging."""
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
        raise ValueError(f"Judging needs labelled images: one folder a class. Received: {name} without labels")
    return split.labels
