"""The k-nearest-neighbors probe: nothing is learned, only the geometry of the features counts."""

from functools import partial
from pathlib import Path
from typing import Any

from simclr_tf.config import Config, Knn
from simclr_tf.evaluation.nearest import knn_probe
from simclr_tf.evaluation.probing import judge_run


def run(run_dir: Path, config: Config, settings: Knn) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    return judge_run("knn", partial(knn_probe, neighbors=settings.neighbors), run_dir, config, settings)
