"""Judging and exporting the encoder of a run: one protocol a file, behind one registry.

To add one, write its settings into `simclr_tf.config.evaluation`, its `run` into a file here, and give it a row.
"""

import importlib
from pathlib import Path
from typing import Any

from simclr_tf import preflight

# Modules with a function `run` of (run_dir, config, settings), imported when they are used.
PROTOCOLS = {
    "export": "simclr_tf.evaluation.export",
    "knn": "simclr_tf.evaluation.knn",
    "linear": "simclr_tf.evaluation.linear",
}


def evaluate(run_dir: str | Path, mode: str = "linear", **settings: Any) -> Any:
    """Judges or exports the encoder of a pretraining run, as `evaluate.py` does.

    Args:
        run_dir: Folder of the run.
        mode: One of `simclr_tf.config.MODES`.
        **settings: Settings of the mode's section there, such as `baselines=True`.

    Returns:
        What the protocol returns: the record of a probe, which is also written to `RUN_DIR/evaluation/<mode>.json`, or
        the path of an export.

    Raises:
        ValueError: If the mode has no such setting, the folder no checkpoint, or the data does not fit the encoder.
    """
    config, chosen = preflight.check_evaluation(run_dir, mode, settings)
    return importlib.import_module(PROTOCOLS[mode]).run(Path(run_dir), config, chosen)
