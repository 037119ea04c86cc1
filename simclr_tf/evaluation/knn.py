"""The k-nearest-neighbors probe: nothing is learned, only the geometry of the features counts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclr_tf.config import Config, Knn
from simclr_tf.evaluation.probe import Features, Result, judge
from simclr_tf.evaluation.probing import judge_run
from simclr_tf.inspect.nearest import TEMPERATURE, vote


def run(run_dir: Path, config: Config, settings: Knn) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    return judge_run("knn", partial(knn_probe, neighbors=settings.neighbors), run_dir, config, settings)


def knn_probe(features: Features, neighbors: Sequence[int] = (20,)) -> Result:
    """Test accuracy of a weighted vote of the nearest training images (Wu et al., 2018, section 3.4).

    The score of class c for an image is, with s_i the cosine similarity of its features to those of image i,

        sum over its k nearest i with y_i = c of exp(s_i / tau).

    As https://arxiv.org/abs/1805.01978 with its tau of 0.07, and k = 20 rather than 200, which suits sets of thousands
    of images. Nothing is tuned, so neighbors come from the training and validation splits together, the images that the
    linear probe learns from. A class without a vote is not among the top 5.

    Args:
        features: Features of the three splits.
        neighbors: Numbers k of neighbors that vote, the result being that of the first; all rows where there are fewer.

    Returns:
        Accuracy on the test split. Hyperparameters: `k`, `temperature` and, with several k, `top1` of each.
    """
    bank = features.train_and_validation()
    ks = [min(k, len(bank)) for k in neighbors]
    test = features.test.features
    votes = vote(test, bank.features, bank.labels, features.num_classes, ks=ks, temperature=TEMPERATURE)
    scores = {k: np.where(found > 0, found, -np.inf) for k, found in votes.items()}
    fixed: dict[str, Any] = {"k": ks[0], "temperature": TEMPERATURE}
    if len(ks) > 1:
        fixed["top1"] = {str(k): judge(scores[k], features.test.labels, len(bank), {}).top1 for k in ks}
    return judge(scores[ks[0]], features.test.labels, len(bank), fixed)
