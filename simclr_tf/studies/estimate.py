"""An estimate of a study's time and memory, measured on a few real steps of each kind of trial: `--dry_run`."""

import dataclasses
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from simclr_tf.config import MODES, Config, Trained
from simclr_tf.studies.execution import Commands, Environment, execute
from simclr_tf.studies.study import Judgment, Trial
from simclr_tf.training.metrics import read_rows

STEPS = 6  # the first, which compiles, is not timed


class Cost(NamedTuple):
    """Seconds a step, steps an epoch, seconds of the rest of a training and of a judgment, most MiB of a process."""

    step: float
    steps: int
    start: float
    judging: float
    mib: int


def forecast(trials: Sequence[Trial], commands: Commands, places: Sequence[Environment]) -> int:
    """Prints the cost of each trial, and of all; returns how many would fail."""
    costs: dict[str, Cost | OSError] = {}
    trained: set[Path] = set()
    judged: set[Path] = set()
    total, most, failed = 0, 0, 0
    for trial in trials:
        state, outcome, config = trial.state(), "", Config.of(**trial.settings)
        if state != "done" and not trial.diverged:
            # Losses and augmentations cost little compared with the network.
            training = config.training.batch_size, config.training.precision, config.training.accumulate
            kind = repr((config.data, config.network, config.hardware, config.objective.similarity, training,
                         _measured(trial)[:2]))  # fmt: skip
            if kind not in costs:
                print(f"measuring {STEPS} steps and an evaluation like those of: {trial}", flush=True)
                costs[kind] = _measure(trial, commands, places[0])
            cost = costs[kind]
            if isinstance(cost, OSError):
                failed, outcome = failed + 1, f": {cost}"
            else:
                step, steps, start, judging, mib = cost
                if sides := config.training.sides:  # measured at the last; others are reckoned by their pixels
                    step *= fmean((side / sides[-1]) ** 2 for side in sides)
                steps = min(config.training.epochs * steps, config.training.max_steps or sys.maxsize)
                once = state != "trained" and trial.folder not in trained  # others may judge the same run
                seconds = round((start + steps * step) * once + judging * (trial.record not in judged))
                trained.add(trial.folder)
                judged.add(trial.record)
                total, most, outcome = total + seconds, max(most, mib), f": {timedelta(seconds=seconds)}, {mib} MiB"
        print(f"{state:7} {trial}{outcome}")
    print(f"first:  {shlex.join(commands(trials[0])['train'])}")
    unknown = f"; without {failed} of {len(trials)} runs, which failed" if failed else ""
    unknown += "; trainings on labels come on top" if any(_trains(trial) for trial in trials) else ""
    unknown += "; further seeds of what is tuned come on top" if any(trial.choice for trial in trials) else ""
    print(
        f"in all: {timedelta(seconds=total // len(places))} with --jobs={len(places)}, not counting validations after the "
        f"first, and counting begun runs as whole; at most {most} MiB of the host's memory a job{unknown}"
    )
    return failed


def _trains(trial: Trial) -> bool:
    return issubclass(MODES[trial.judgment.mode], Trained)


def _measured(trial: Trial) -> Judgment:
    """The judgment to measure: a probe in place of a training on labels."""
    return Judgment("linear") if _trains(trial) else trial.judgment


def _measure(trial: Trial, commands: Commands, place: Environment) -> Cost | OSError:
    """What a trial costs, or the error."""
    with tempfile.TemporaryDirectory(prefix="simclr-study-") as folder:
        settings = {**trial.settings, "max_steps": STEPS, "resolutions": None}
        short = dataclasses.replace(trial, folder=Path(folder) / "run", settings=settings, judgment=_measured(trial))
        errors: list[OSError | None] = []
        execute([short], commands, [place], lambda _, error: errors.append(error))
        if errors[0]:
            return errors[0]
        usage, rate = short.usage(), read_rows(short.folder / "metrics.csv")[-1]["images_per_second"]
        judging = usage[short.judged_as]
        steps = int(re.findall(r"^steps +(\d+) an epoch", short.log.read_text(), re.MULTILINE)[0])
    # Without a rate, the epoch had a single step, and the whole run counts as one.
    step = Config.of(**settings).training.batch_size / rate if rate else usage["train_seconds"]
    start = max(0.0, usage["train_seconds"] - STEPS * step)
    return Cost(step, steps, start, judging["evaluate_seconds"], max(usage["train_mib"], judging["evaluate_mib"]))
