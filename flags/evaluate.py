"""Judges the encoder of a pretraining run, applies it to image files, or exports it.

    python evaluate.py --run_dir=runs/demo --mode=report
    python evaluate.py --run_dir=runs/demo --mode=linear --baselines
    python evaluate.py --run_dir=runs/demo --mode=knn --dataset=folder --data_dir=my_images
    python evaluate.py --run_dir=runs/demo --mode=embed --images=my_images

Most modes use the run's data, or that of --dataset and --data_dir, print a table and write RUN_DIR/evaluation/<mode>.json.
An installed copy has the same command as `simclr-evaluate`.
"""

import os
from pathlib import Path

from absl import flags as absl_flags

from simclr_tf import preflight
from simclr_tf.config import MODES, Mode
from simclr_tf.training.signals import interruptible

from . import FLAGS, define, fields, given, import_tensorflow, run

MODE_LINES = "\n".join(f"  --mode={name:12} {kind.summary}" for name, kind in MODES.items())


def main() -> None:
    """The command."""
    absl_flags.DEFINE_string("run_dir", None, "Folder of the run to judge.")
    absl_flags.DEFINE_enum("mode", None, list(MODES), "What to do.")
    define(fields(*MODES.values()))
    common = fields(Mode)
    groups = {"Every mode": common}
    for mode, kind in MODES.items():
        groups[f"--mode={mode}"] = {name: field for name, field in fields(kind).items() if name not in common}
    groups = {title: group for title, group in groups.items() if group}
    run(_evaluate, f"{__doc__}\nModes:\n\n{MODE_LINES}\n\nEvery mode needs --run_dir, the folder of the run.", groups)


def _evaluate() -> None:
    if FLAGS.mode is None:
        print(MODE_LINES)
        raise ValueError("`mode` is needed, one of those above. Received: no `mode`")
    if not FLAGS.run_dir:
        raise ValueError("`run_dir` is needed, the folder of a pretraining run. Received: no `run_dir`")
    run_dir, settings = Path(os.path.expanduser(FLAGS.run_dir)), given(fields(*MODES.values()))
    preflight.check_evaluation(run_dir, FLAGS.mode, settings)
    with interruptible("run the same command again; a training in it goes on where it was"):
        # From here on it takes seconds: whatever is wrong with the flags alone has been refused.
        import_tensorflow()
        from simclr_tf.evaluation import evaluate

        evaluate(run_dir, FLAGS.mode, **settings)


if __name__ == "__main__":
    main()
