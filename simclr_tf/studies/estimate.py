"""What a study will take, from a few real steps of each kind of cell: `--dry_run`."""

import dataclasses
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simclr_tf.studies.execution import Environment, Failure, last_line, timed
from simclr_tf.studies.runs import Run
from simclr_tf.training import metrics

STEPS = 6  # the first, which compiles, is not timed


class Cost(NamedTuple):
    """What runs of one kind take.

    Attributes:
        seconds_per_step: of training.
        steps_per_epoch: on their data.
        overhead: seconds of starting, compiling, one validation and the export.
        evaluation: seconds of `evaluate.py`.
        mib: the most memory that either process held on the host.
    """

    seconds_per_step: float
    steps_per_epoch: int
    overhead: float
    evaluation: float
    mib: float

    def seconds(self, run: Run) -> float:
        """Of a whole run, without the validations after the first."""
        training = run.config.training
        steps = min(training.epochs * self.steps_per_epoch, training.max_steps or float("inf"))
        return self.overhead + steps * self.seconds_per_step + self.evaluation


def kind(run: Run) -> str:
    """Runs of one kind take the same time for a step; losses and augmentations hardly matter beside the network."""
    config = run.config
    parts: list[Any] = [config.data, config.network, config.hardware, config.objective.similarity]
    return repr([*map(str, parts), config.training.batch_size, config.training.precision])


def costs(runs: Sequence[Run], place: Environment, note: Callable[[str], None] = print) -> dict[str, Cost | Failure]:
    """Measures one run of each kind that is not done, in a folder that is deleted afterwards.

    Args:
        runs: of a study.
        place: the environment of a job.
        note: called with a line before each measurement.

    Returns:
        By `kind`; where the steps failed, how.
    """
    found: dict[str, Cost | Failure] = {}
    for run in runs:
        if run.state() != "done" and kind(run) not in found:
            note(f"measuring {STEPS} steps and an evaluation like those of: {run.name}")
            try:
                found[kind(run)] = measure(run, place)
            except Failure as error:
                found[kind(run)] = error
    return found


def steps_per_epoch(log: str) -> int:
    """What a run says it has.

    Raises:
        Failure: when it does not.
    """
    match = re.search(r"^steps +(\d+) an epoch", log, re.MULTILINE)
    if match is None:
        raise Failure("train.py did not say how many steps an epoch has")
    return int(match[1])


def measure(run: Run, place: Environment) -> Cost:
    """Trains for a few steps and judges the encoder.

    Raises:
        Failure: when one of the two ends with an error.
    """
    with tempfile.TemporaryDirectory(prefix="simclr-study-") as folder:
        short = dataclasses.replace(run, folder=Path(folder) / "run", flags={**run.flags, "max_steps": STEPS})
        try:
            train, evaluate = (timed(command, short.log, place, set()) for command in short.commands().values())
        except Failure as error:
            raise Failure(last_line(short.log)) from error  # of a log that will be gone
        rate = metrics.read_rows(short.folder / "metrics.csv")[-1]["images_per_second"]
        steps = steps_per_epoch(short.log.read_text())
    batch = run.config.training.batch_size
    # Fewer steps than asked for is an epoch of one step; then everything counts as a step.
    per_step = batch / rate if rate else train[0]
    overhead = max(0.0, train[0] - STEPS * per_step)
    return Cost(per_step, steps, overhead, evaluate[0], max(train[1], evaluate[1]))
