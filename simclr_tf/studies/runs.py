"""The runs of a study: which there are, where they go, and how far each has come."""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import simclr_tf
from simclr_tf.config import PLACES, Config
from simclr_tf.studies import settings
from simclr_tf.studies.study import Cell, Study
from simclr_tf.training import metrics

ENTRY_POINTS = Path(simclr_tf.__file__).resolve().parent.parent
USAGE = "study.json"  # what a run took, in its folder


@dataclasses.dataclass(frozen=True)
class Run:
    """A cell with a seed.

    Attributes:
        cell: which.
        seed: of the run.
        folder: its run_dir.
        mode: of `evaluate.py`.
        flags: of `train.py`, by name, but for the folder.
    """

    cell: Cell
    seed: int
    folder: Path
    mode: str
    flags: dict[str, Any]

    @property
    def name(self) -> str:
        """What to call it on the screen."""
        return f"{', '.join(self.cell.labels)}, seed {self.seed}"

    @property
    def config(self) -> Config:
        """What `train.py` makes of the flags."""
        return settings.config_of(self.flags)

    @property
    def record(self) -> Path:
        """The file that is there when the run is done."""
        return self.folder / "evaluation" / f"{self.mode}.json"

    @property
    def log(self) -> Path:
        """The file that takes what the run prints."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def trained(self) -> bool:
        """Whether only the evaluation is left: the export is the last thing that `train.py` does."""
        return (self.folder / "encoder" / "saved_model.pb").exists()

    def state(self) -> str:
        """`done`, `begun` or `to do`."""
        if self.record.exists():
            return "done"
        return "begun" if (self.folder / "config.json").exists() else "to do"

    def commands(self) -> dict[str, list[str]]:
        """The command lines of its two steps; both continue or repeat what an earlier process began."""
        train = [*settings.words(self.flags), f"--run_dir={self.folder}", "--resume"]
        return {
            "train": [sys.executable, str(ENTRY_POINTS / "train.py"), *train],
            "evaluate": [
                sys.executable, str(ENTRY_POINTS / "evaluate.py"), f"--run_dir={self.folder}", f"--mode={self.mode}"
            ],
        }  # fmt: skip

    def measures(self) -> dict[str, Any]:
        """What a finished run came to: accuracies in per cent, the last epoch, and what it took."""
        record = json.loads(self.record.read_text())
        last = metrics.read_rows(self.folder / "metrics.csv")[-1]
        accuracy = last["contrastive_accuracy"]
        return {
            "top1": round(100 * record["top1"], 4),
            "top5": round(100 * record["top5"], 4),
            "train_loss": last["loss"],
            **{name: last[name] for name in ("val_loss", "contrastive_entropy")},
            "contrastive_accuracy": None if accuracy is None else 100 * accuracy,
            **self.usage(),
        }

    def usage(self) -> dict[str, Any]:
        """What it took, as `execution` wrote it; empty where it was run by other means."""
        path = self.folder / USAGE
        return json.loads(path.read_text()) if path.exists() else {}


def plan(
    study: Study,
    given: dict[str, Any],
    folder: Path,
    seeds: int = 1,
    mode: str = "linear",
    only: Sequence[str] = (),
) -> list[Run]:
    """The runs of a study, all of them checked.

    Args:
        study: which.
        given: flags of every run, by name.
        folder: of the study; each run gets a folder of its own in it.
        seeds: how often to repeat each cell, from `--seed` on.
        mode: of `evaluate.py`.
        only: labels; where there are any, only the cells that have no others are left.

    Raises:
        ValueError: when a cell's settings are illegal, a folder holds another run, or `only` leaves nothing.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1. Received: {seeds}")
    base = settings.config_of(given)
    cells = [cell.of(base) for cell in study.cells]
    known = {label for cell in cells for label in cell.labels}
    if unknown := sorted(set(only) - known):
        raise ValueError(f"--only takes labels of {', '.join(sorted(known))}. Received: {', '.join(unknown)}")
    cells = [cell for cell in cells if not only or set(cell.labels) <= set(only)]
    if not cells:
        raise ValueError(f"--only must leave a label on each axis: {', '.join(study.axes)}. Received: {list(only)}")
    # Seed by seed, so that a study that is stopped has the whole grid as soon as possible.
    runs = [_run(cell, base.training.seed + i, given, folder, mode) for i in range(seeds) for cell in cells]
    for run in runs:
        _check(run)
    return runs


def _run(cell: Cell, seed: int, given: dict[str, Any], folder: Path, mode: str) -> Run:
    name = re.sub(r"[^\w.]+", "_", "-".join(cell.labels))
    return Run(cell, seed, folder / f"{name}-seed{seed}", mode, {**given, **cell.flags, "seed": seed})


def _check(run: Run) -> None:
    try:
        wanted = run.config.to_dict()
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error
    path = run.folder / "config.json"
    if not path.exists():
        return
    saved = Config.load(path).to_dict()
    for section, settings_ in wanted.items():
        for flag, value in settings_.items():
            if section not in PLACES and saved[section][flag] != value:
                raise ValueError(
                    f"{run.folder} was run with --{flag}={saved[section][flag]}; give this study another --runs_dir. "
                    f"Received: --{flag}={value}"
                )
