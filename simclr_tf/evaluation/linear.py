"""The linear probe: logistic regression on the frozen features of a run's encoder."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclr_tf import files
from simclr_tf.config import Config, Linear
from simclr_tf.evaluation.logistic import Classifier, linear_probe
from simclr_tf.evaluation.probing import classifier_file, judge_run
from simclr_tf.places import data_source, results_folder


def run(run_dir: Path, config: Config, settings: Linear) -> dict[str, Any]:
    """Judges the encoder of a run, and keeps the classifier for `mode=export`; the record is that of `judge_encoder`."""
    fitted: list[Classifier] = []
    record = judge_run("linear", partial(linear_probe, keep=fitted.append), run_dir, config, settings)
    folder = results_folder(run_dir, settings.layer, data_source(settings, config.data), config.data)
    classifier = fitted[0]  # the encoder's; those of the baselines come after it
    kept: dict[str, Any] = {
        **classifier.arrays(),
        "class_names": np.array(record["class_names"])[classifier.model.classes_],
        "encoder_digest": np.array(record["encoder_digest_after"]),
    }
    with files.replacing(classifier_file(folder)) as file:
        np.savez(file, **kept)
    return record
