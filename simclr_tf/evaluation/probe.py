"""What every probe takes and returns: `Features` of the three splits in, a `Result` on the test split out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

TOP = 5


@dataclass(frozen=True, eq=False)
class Labeled:
    """Features of one split with their labels.

    Args:
        features: float32 (N, D).
        labels: int (N,), from 0 to the number of classes - 1.

    Raises:
        ValueError: If the shapes do not belong together, there are no rows, or a value is not finite.
    """

    features: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Checks the shapes and values."""
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1] or not self.features.size:
            raise ValueError(
                "Expected features of shape (N, D) and labels of shape (N,), N and D at least 1. "
                f"Received: {self.features.shape} and {self.labels.shape}"
            )
        finite = np.isfinite(self.features).all(axis=1)
        if not finite.all():
            raise ValueError(
                "Features must be finite; otherwise the encoder has diverged. "
                f"Received: {np.count_nonzero(~finite)} of {len(finite)} rows with NaN or infinity"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Features:
    """Frozen features of the three splits of a data set.

    Args:
        train: Rows that a probe learns from.
        validation: Rows on which a probe's hyperparameters are chosen, and nothing else.
        test: Rows on which a probe is judged, once.
        num_classes: Number of classes; every label is below it.

    Raises:
        ValueError: If the splits differ in D, or a label is outside 0 .. num_classes - 1.
    """

    train: Labeled
    validation: Labeled
    test: Labeled
    num_classes: int

    def __post_init__(self) -> None:
        """Checks that the splits belong together."""
        splits = (self.train, self.validation, self.test)
        widths = [split.features.shape[1] for split in splits]
        if len(set(widths)) > 1:
            raise ValueError(f"The splits' features must have one dimension D. Received: {widths}")
        low, high = min(split.labels.min() for split in splits), max(split.labels.max() for split in splits)
        if low < 0 or high >= self.num_classes:
            raise ValueError(f"Labels must be in 0 .. {self.num_classes - 1}. Received: {low} .. {high}")

    def train_and_validation(self) -> Labeled:
        """All rows that a probe may learn from once its hyperparameters are chosen."""
        return Labeled(
            np.concatenate([self.train.features, self.validation.features]),
            np.concatenate([self.train.labels, self.validation.labels]),
        )


@dataclass(frozen=True, eq=False)
class Result:
    """How well a probe does on the test split.

    Args:
        top1: Fraction of test images whose class has the highest score.
        top5: Fraction of test images whose class is among the five highest scores, ties going to the class with the
            lower number, scores of minus infinity left out; None with five classes or fewer, where it would always be 1.
        interval: Wilson's interval of top1 at 95 % (Wilson, 1927): how far another sample of as many test images could
            move it.
        per_class: Accuracy on the test images of each class; None for a class without any.
        mean_per_class: Their mean, which the paper reports for data sets of unequal classes (appendix B.8.1).
        n_train: Number of images that the probe learned from.
        n_test: Number of test images.
        hyper_parameters: Plain values that the probe fixed or chose.
        predictions: int (n_test,), the class with the highest score.
    """

    top1: float
    top5: float | None
    interval: list[float]
    per_class: list[float | None]
    mean_per_class: float
    n_train: int
    n_test: int
    hyper_parameters: dict[str, Any]
    predictions: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The plain values for a report: everything except the predictions."""
        return {name: value for name, value in vars(self).items() if name != "predictions"}


def judge(scores: np.ndarray, labels: np.ndarray, n_train: int, hyper_parameters: dict[str, Any]) -> Result:
    """The `Result` of scores, float (N, classes), given the true classes, int (N,)."""
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]  # (N, min(5, classes))
    hits = (ranked == labels[:, None]) & np.isfinite(np.take_along_axis(scores, ranked, axis=1))
    top1 = float(hits[:, 0].mean())
    low, high = binomtest(int(hits[:, 0].sum()), len(labels)).proportion_ci(method="wilson")
    of_class = [hits[labels == label, 0] for label in range(scores.shape[1])]
    return Result(
        top1=top1,
        top5=float(hits.any(axis=1).mean()) if scores.shape[1] > TOP else None,
        interval=[float(low), float(high)],
        per_class=[float(found.mean()) if len(found) else None for found in of_class],
        mean_per_class=float(np.mean([found.mean() for found in of_class if len(found)])),
        n_train=n_train,
        n_test=len(labels),
        hyper_parameters=hyper_parameters,
        predictions=ranked[:, 0],
    )
