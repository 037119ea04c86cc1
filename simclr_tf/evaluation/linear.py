"""The linear probe: multinomial logistic regression on frozen features (Chen et al., 2020, section 2.3 and B.8)."""

import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from simclr_tf.config import Config, Linear
from simclr_tf.evaluation.probe import Features, Labelled, Result, judge
from simclr_tf.evaluation.probing import judge_run

# Inverse strengths, from strongly to weakly regularised: each fit starts where the last one, a simpler one, ended.
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# L-BFGS stops once no component of the mean loss's gradient exceeds this. Features are standardised, so that is a
# correlation of residual and feature below 0.001. A tenth of it doubles the time and moves the accuracy on CIFAR-10's
# pixels by 0.05 points.
TOLERANCE = 1e-3
SEARCH_ITERATIONS = 100
FINAL_ITERATIONS = 500


def run(run_dir: Path, config: Config, settings: Linear) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    return judge_run("linear", linear_probe, run_dir, config, settings)


def linear_probe(features: Features) -> Result:
    """Test accuracy of a linear classifier on frozen, standardised features.

    Minimises over weights w and biases b, with x standardised to mean 0 and variance 1 by training statistics,

        sum_i -log softmax(w x_i + b)[y_i] + |w|^2 / (2 C).

    C is the one of `GRID` with the highest accuracy on the validation split, the smallest of equals. Standardisation
    and classifier are then fitted again on training and validation split together; the test split is looked at once.
    There is no randomness in it.

    The paper tunes the L2 strength on a validation split in the same way (appendix B.8, no standardising mentioned).
    Standardising makes one grid of C serve representations of any scale, raw pixels included.

    Args:
        features: of the three splits.

    Returns:
        Accuracy on the test split. Hyper-parameters: `C`, `validation_top1` (of each C that was tried),
        `iterations` and `converged` of the final fit.

    Raises:
        ValueError: when the training split has fewer than two classes.
    """
    if len(np.unique(features.train.labels)) < 2:
        raise ValueError("A linear classifier needs at least two classes in the training split. Received: 1")
    model = LogisticRegression(tol=TOLERANCE, warm_start=True)
    tried = _search(model, features)
    learnt_from = features.train_and_validation()
    scaler = StandardScaler().fit(learnt_from.features)
    # A class of the validation split alone gives the final fit one more row of weights than there is to start from.
    model.set_params(warm_start=len(model.classes_) == len(np.unique(learnt_from.labels)))
    converged = _fit(model, scaler, learnt_from, FINAL_ITERATIONS)
    return judge(
        _scores(model, scaler, features.test.features, features.num_classes),
        features.test.labels,
        len(learnt_from),
        {
            "C": model.C,
            "validation_top1": {f"{strength:g}": accuracy for strength, accuracy in tried},
            "iterations": int(model.n_iter_[0]),
            "converged": converged,
        },
    )


def _search(model: LogisticRegression, features: Features) -> list[tuple[float, float]]:
    """Leaves `model` with the best C and its solution; returns (C, validation accuracy) of all that were tried."""
    scaler = StandardScaler().fit(features.train.features)
    tried: list[tuple[float, float]] = []
    best, solution = -1.0, (model.C, None, None)
    for strength in GRID:
        model.set_params(C=strength)
        _fit(model, scaler, features.train, SEARCH_ITERATIONS)
        scores = _scores(model, scaler, features.validation.features, features.num_classes)
        accuracy = judge(scores, features.validation.labels, len(features.train), {}).top1
        tried.append((strength, accuracy))
        if accuracy > best:
            best, solution = accuracy, (strength, model.coef_.copy(), model.intercept_.copy())
        # Past the peak the fits take longest and are of no use. One standard error, lest noise pass for a peak.
        elif best - accuracy > np.sqrt(best * (1 - best) / len(features.validation)):
            break
    strength, model.coef_, model.intercept_ = solution
    model.set_params(C=strength)
    return tried


def _fit(model: LogisticRegression, scaler: StandardScaler, split: Labelled, iterations: int) -> bool:
    """Fits from where the model is; True if it converged. The user reads that in the report, not in a warning."""
    # BLAS threads wait for each other by spinning. With as many as cores, any other load on the machine makes the many
    # small products of a fit three times as slow as with half as many (measured on 2 cores), and once 25 times.
    threads = max(1, joblib.cpu_count() // 2)
    with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.set_params(max_iter=iterations).fit(scaler.transform(split.features), split.labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _scores(model: LogisticRegression, scaler: StandardScaler, features: np.ndarray, num_classes: int) -> np.ndarray:
    """Logits (N, num_classes); minus infinity for classes that the model has never seen."""
    logits = model.decision_function(scaler.transform(features))
    if logits.ndim == 1:  # two classes: the logit of the second
        logits = np.stack([-logits, logits], axis=1)
    scores = np.full((len(features), num_classes), -np.inf)
    scores[:, model.classes_] = logits
    return scores
