"""The runs of a study for TensorBoard's HParams tab: `tensorboard --logdir RUNS_DIR/NAME`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorboard.plugins.hparams import api as hp

from simclr_tf.studies.runs import Run
from simclr_tf.studies.study import MEASURES, Study


def write(study: Study, runs: Sequence[Run], folder: Path) -> None:
    """Writes the labels, flags and measures of every finished run, in place of what was there.

    Args:
        study: which.
        runs: its runs.
        folder: takes a folder of events for each run, and one of the study.
    """
    done = [run for run in runs if run.state() == "done"]
    shutil.rmtree(folder, ignore_errors=True)
    flags = sorted({flag for run in done for flag in run.cell.flags} | {"seed"})
    with tf.summary.create_file_writer(str(folder)).as_default():
        hp.hparams_config(
            hparams=[hp.HParam(name) for name in (*study.axes, *(f"--{flag}" for flag in flags))],
            metrics=[hp.Metric(name, display_name=MEASURES[name][0]) for name in MEASURES],
        )
    for run in done:
        values = {f"--{flag}": run.flags[flag] for flag in flags if flag in run.flags}
        measures = run.measures()
        with tf.summary.create_file_writer(str(folder / run.folder.name)).as_default():
            hp.hparams({**dict(zip(study.axes, run.cell.labels, strict=True)), **values}, trial_id=run.folder.name)
            for name in MEASURES:
                if measures[name] is not None:
                    tf.summary.scalar(name, measures[name], step=0)
