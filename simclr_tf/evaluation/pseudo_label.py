"""Labels for unlabeled images, from a probe that learned on labeled ones; and how far they can be trusted."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import StratifiedKFold

from simclr_tf import encoders, figures, files
from simclr_tf.config import Config, PseudoLabel
from simclr_tf.data.folder import image_paths
from simclr_tf.data.source import EncodedImages, Split
from simclr_tf.evaluation.features import extract_files, extract_once
from simclr_tf.evaluation.logistic import fit
from simclr_tf.evaluation.probe import Features, Labeled
from simclr_tf.evaluation.probing import features_folder, features_of, judged_splits, labels_of, open_data, place
from simclr_tf.inspect.nearest import vote
from simclr_tf.places import data_source, results_folder
from simclr_tf.progress import progress

NEIGHBORS = 20
FOLDS = 5
POINTS = 200  # of the curve, about

Probabilities = Callable[[np.ndarray], np.ndarray]  # features (N, D) -> probabilities (N, classes)


def run(run_dir: Path, config: Config, settings: PseudoLabel) -> dict[str, Any]:
    """Labels images, and measures on the labeled test images what labels of that confidence are worth.

    Writes `pseudo_labels.csv` (file, label, confidence), `pseudo_label.json` and the curve of precision over coverage,
    `pseudo_label.png`. Where cleanlab is installed, `label_issues.csv` lists training images whose own label is probably
    wrong, by cross-validation.

    Returns:
        The record: `dataset`, `data_dir`, `encoder_digest`, `by`, `threshold`, `labeled` and `images` (numbers), and of the
        test images `coverage` (the part with that confidence), `precision` (how many of these are labeled right; None if
        there are none) and `curve`, triples of threshold, coverage and precision for falling thresholds.

    Raises:
        ValueError: If labels or images are missing, or more than `max_bad_files` are unreadable.
    """
    name, data_dir = data_source(settings, config.data)
    paths = image_paths(settings.places)
    encoder = encoders.load_encoder(run_dir, settings.layer)
    dataset = open_data(name, data_dir, config, run_dir)
    splits = judged_splits(dataset, config.data.validation_fraction, config.training.seed)
    keep_in = features_folder(run_dir, settings.layer)
    class_names = dataset.class_names or ()
    features = features_of(encoder, splits, dataset, partial(extract_once, folder=keep_in))
    probabilities, test = METHODS[settings.by](features), features.test

    folder = results_folder(run_dir, settings.layer, (name, data_dir), config.data)
    labeled = _write_labels(encoder, probabilities, paths, settings, class_names, folder / "pseudo_labels.csv")
    of_test = probabilities(test.features)
    curve = precision_over_coverage(of_test, test.labels)
    sure = of_test.max(axis=1) >= settings.threshold
    right = of_test.argmax(axis=1) == test.labels
    record = {
        "mode": "pseudo_label", "dataset": dataset.name, "data_dir": place(data_dir),
        "encoder_digest": encoders.weights_digest(encoder), "by": settings.by, "threshold": settings.threshold,
        "images": len(paths), "labeled": labeled, "coverage": float(sure.mean()),
        "precision": float(right[sure].mean()) if sure.any() else None, "curve": curve.tolist(),
    }  # fmt: skip
    files.write_json(folder / "pseudo_label.json", record)
    _draw(curve, record, folder / "pseudo_label.png")
    precision = "no label" if record["precision"] is None else f"{record['precision']:.1%} of them right"
    print(f"labeled  {labeled} of {len(paths)} images in {folder / 'pseudo_labels.csv'}")
    print(f"trust    on the test images, {record['coverage']:.1%} have that confidence: {precision}")
    if importlib.util.find_spec("cleanlab"):
        _write_issues(encoder, dataset.train, name, class_names, keep_in, folder / "label_issues.csv")
    return record


def _by_probe(features: Features) -> Probabilities:
    return fit(features).probabilities


def _by_neighbors(features: Features) -> Probabilities:
    bank = features.train_and_validation()
    k = min(NEIGHBORS, len(bank))

    def share(rows: np.ndarray) -> np.ndarray:
        """Each class's share of the votes."""
        votes = vote(rows, bank.features, bank.labels, features.num_classes, ks=[k])[k]
        return votes / votes.sum(axis=1, keepdims=True)

    return share


METHODS: dict[str, Callable[[Features], Probabilities]] = {"knn": _by_neighbors, "linear": _by_probe}


def precision_over_coverage(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The precision of labels against their coverage, from the most confident label on.

    Args:
        probabilities: float (N, classes).
        labels: int (N,), the true classes.

    Returns:
        float (points, 3) in order of falling thresholds: threshold, coverage (the part of the images whose confidence
        reaches it) and precision (the part of these that is labeled right).
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(probabilities.argmax(axis=1)[order] == labels[order])
    numbers = np.arange(1, len(labels) + 1)
    points = np.stack([confidence[order], numbers / len(labels), right / numbers], axis=1)
    # Images of the same confidence are labeled together or not at all.
    last = np.append(np.flatnonzero(np.diff(points[:, 0])), len(points) - 1)
    return points[np.unique([*last[:: max(1, len(last) // POINTS)], last[-1]])]


def _write_labels(encoder, probabilities: Probabilities, paths, settings: PseudoLabel, class_names, path: Path) -> int:
    rows = [
        [name, class_names[row.argmax()], f"{row.max():.4f}"]
        for names, features in extract_files(encoder, paths, settings.max_bad_files)
        for name, row in zip(names, probabilities(features), strict=True)
        if row.max() >= settings.threshold
    ]
    files.write_csv(path, ["file", "label", "confidence"], rows)
    return len(rows)


def _write_issues(encoder, split: Split, name: str, class_names, keep_in: Path, path: Path) -> None:
    """Training images whose label cleanlab doubts, by probabilities from folds that had not seen them."""
    labels = labels_of(split, name)
    counts = np.bincount(labels)
    if (fewest := min(counts[counts > 0])) < 3:  # one to judge, one to fit, one to choose the L2 strength on
        print(f"note: doubting labels takes three images of each class, and a class has {fewest}")
        return
    from cleanlab.filter import find_label_issues

    rows, probabilities = extract_once(encoder, split, keep_in), np.zeros((len(labels), len(class_names)))
    number = min(FOLDS, int(fewest))
    folds = StratifiedKFold(number, shuffle=True, random_state=0).split(rows, labels)
    for seen, unseen in progress(folds, "doubting labels", number):
        first = np.unique(labels[seen], return_index=True)[1]  # of each class, which stays
        held = np.isin(np.arange(len(seen)), np.setdiff1d(np.arange(len(seen)), first)[::FOLDS])
        train, validation, test = (Labeled(rows[part], labels[part]) for part in (seen[~held], seen[held], unseen))
        classifier = fit(Features(train, validation, test, len(class_names)))
        probabilities[unseen] = classifier.probabilities(test.features)
    issues = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    name_of = split.images.name if isinstance(split.images, EncodedImages) else int
    lines = (
        [name_of(row), class_names[labels[row]], class_names[probabilities[row].argmax()],
         f"{probabilities[row, labels[row]]:.4f}"]
        for row in issues
    )  # fmt: skip
    files.write_csv(path, ["image", "label", "suggested", "confidence in the label"], lines)
    print(f"doubts   cleanlab doubts {len(issues)} labels of the training images, in {path}")


def _draw(curve: np.ndarray, record: dict[str, Any], out: Path) -> None:
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    figures.finish(axes, "Pseudo labels on the test images", "% labeled", "% of these labeled correctly")
    axes.plot(100 * curve[:, 1], 100 * curve[:, 2], color=figures.COLORS[0])
    if record["precision"] is not None:
        at = 100 * record["coverage"], 100 * record["precision"]
        axes.plot(*at, "o", color=figures.COLORS[1])
        axes.annotate(f"threshold {record['threshold']:g}", at, (6, 6), textcoords="offset points", color=figures.INK)
    axes.set_xlim(0, 100)
    figures.save(figure, out)
