"""Judging and exporting the encoder of a run: one protocol a file, behind one registry.

To add one, write its settings into `simclr_tf.config.evaluation`, its `run` into a file here, or in `simclr_tf.protocols`
if it trains, and give it a row.
"""

import importlib
from pathlib import Path
from typing import Any

from simclr_tf import preflight
from simclr_tf.training import checkpoints, run_folder

# Functions of (run_dir, config, settings), their modules imported when they are used.
PROTOCOLS = {
    "embed": "simclr_tf.evaluation.embed:run",
    "export": "simclr_tf.evaluation.export:run",
    "finetune": "simclr_tf.protocols.finetune:run",
    "invariance": "simclr_tf.evaluation.invariance:run",
    "knn": "simclr_tf.evaluation.knn:run",
    "linear": "simclr_tf.evaluation.linear:run",
    "linear_sgd": "simclr_tf.evaluation.linear_sgd:run",
    "neighbors": "simclr_tf.evaluation.neighbors:run",
    "pseudo_label": "simclr_tf.evaluation.pseudo_label:run",
    "report": "simclr_tf.evaluation.health:run",
    "supervised": "simclr_tf.protocols.finetune:run_supervised",
    "transfer": "simclr_tf.protocols.transfer:run",
}


def evaluate(run_dir: str | Path, mode: str = "linear", **settings: Any) -> Any:
    """Judges or exports the encoder of a pretraining run, as `evaluate.py` does.

    Args:
        run_dir: Folder of the run.
        mode: One of `simclr_tf.config.MODES`.
        **settings: Settings of the mode's section there, such as `baselines=True`.

    Returns:
        What the protocol returns: the record of a probe, which is also written to `<mode>.json` below
        `RUN_DIR/evaluation`; the paths of an export; the path of what `embed` and `neighbors` write. With another
        `checkpoint` than the newest, `RUN_DIR/at/epoch-N` takes the place of `RUN_DIR`.

    Raises:
        ValueError: If the mode has no such setting, the folder no checkpoint, or the data does not fit the encoder.
        FloatingPointError: If the loss of a protocol that trains is no longer finite.
        RuntimeError: If a probe changed the encoder.
    """
    config, chosen = preflight.check_evaluation(run_dir, mode, settings)
    module, function = PROTOCOLS[mode].split(":")
    run = getattr(importlib.import_module(module), function)
    from simclr_tf.data.pipeline import naming_lost_images  # imports TensorFlow, as most modes do

    folder = Path(run_dir) if chosen.checkpoint == "newest" else run_folder.at(Path(run_dir), chosen.checkpoint)
    for line in checkpoints.loaded(folder / "checkpoints").skipped:
        print(f"note: {line}", flush=True)
    with naming_lost_images():
        return run(folder, config, chosen)
