"""The linear probe: logistic regression on the frozen features of a run's encoder."""

from pathlib import Path
from typing import Any

from simclr_tf.config import Config, Linear
from simclr_tf.evaluation.logistic import linear_probe
from simclr_tf.evaluation.probing import judge_run


def run(run_dir: Path, config: Config, settings: Linear) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    return judge_run("linear", linear_probe, run_dir, config, settings)
