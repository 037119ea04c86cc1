"""A study as plain data, a grid of cells that differ in a few settings; and its trials, each a cell with a seed."""

import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from simclr_tf.config import MODES, Config, Finetune, Judged
from simclr_tf.places import data_source, results_folder
from simclr_tf.training import run_folder
from simclr_tf.training.metrics import read_rows

Labels = tuple[Any, ...]  # a cell's place on each axis
Settings = Mapping[str, Any]  # values by name
Summary = Mapping[Labels, Mapping[str, Sequence[float]]]  # of each cell, the values of each measure, one a seed

# Measures of a trial, and how tables show them.
MEASURES = {
    "top1": ("top-1 %", "{:.1f}"),
    "validation_top1": ("validation top-1 %", "{:.1f}"),
    "train_seconds": ("training, s", "{:.0f}"),
    "contrastive_accuracy": ("contrastive accuracy %", "{:.1f}"),
    "contrastive_entropy": ("entropy (nats)", "{:.2f}"),
}


VALIDATED = ("linear", "linear_sgd")  # modes that choose on validation images, and record the accuracy there


class Times(NamedTuple):
    """A multiple of the value that a setting has on the command line, or by default."""

    name: str
    factor: float


class Tuned(NamedTuple):
    """A value chosen for each cell among several, by the accuracy on the validation images with the first seed."""

    choices: tuple[Any, ...]  # values, or `Times`


class Judgment(NamedTuple):
    """How a run is judged: the mode of `evaluate`, its settings, and where in its record the accuracy is."""

    mode: str
    settings: Settings = {}
    keys: tuple[str, ...] = ("top1",)

    def complete(self, of_run: Settings) -> "Judgment":
        """The same, with seed and strategy of a trial's run where the mode trains, too."""
        known = {field.name for field in dataclasses.fields(MODES[self.mode])}
        taken: Settings = {name: of_run[name] for name in ("seed", "strategy") if name in known and name in of_run}
        return self._replace(settings={**self.settings, **taken})


def values(name: str, *choices: Any) -> dict[Any, Settings]:
    """An axis of values of one setting, which are their own labels."""
    return {choice: {name: choice} for choice in choices}


def multiples(name: str, *factors: float) -> dict[Any, Settings]:
    """An axis of multiples of the value on the command line."""
    return values(name, *(Times(name, factor) for factor in factors))


def tuned(cells: Mapping[Labels, Settings], **choices: Sequence[Any]) -> dict[Labels, Settings]:
    """The cells with settings that are tuned for each of them."""
    return {
        labels: {**cell, **{name: Tuned(tuple(choices[name])) for name in choices}} for labels, cell in cells.items()
    }


def named(cells: Mapping[str, Settings]) -> dict[Labels, Settings]:
    """Cells that have nothing in common but their study, each with a label of its own."""
    return {(label,): settings for label, settings in cells.items()}


def grid(*axes: Mapping[Any, Settings]) -> dict[Labels, Settings]:
    """The cells of all combinations."""
    points = [zip(*point, strict=True) for point in itertools.product(*(axis.items() for axis in axes))]
    return {labels: {name: cell[name] for cell in cells for name in cell} for labels, cells in points}


def top1(columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> dict[Labels, tuple[float, ...]]:
    """A table of the paper, as `Study.paper` takes it."""
    return {(row, column): (value,) for row in rows for column, value in zip(columns, rows[row], strict=True)}


@dataclasses.dataclass(frozen=True)
class Study:
    """A comparison: a grid of cells, and the paper's results for some of them."""

    title: str  # of the report
    question: str  # what is compared, and what differs from the paper
    axes: tuple[str, ...]  # names of the labels
    cells: Mapping[Labels, Settings]  # by label; the settings in which a cell differs
    measures: tuple[str, ...] = ("top1",)  # keys of `MEASURES`, the last of which is drawn
    paper: Mapping[Labels, tuple[float, ...]] = dataclasses.field(default_factory=dict)  # its measures of a cell
    source: str = ""  # where the paper has them, and for which setting
    figure: str = "bars"  # or "heatmap", rows being the first axis, or "parameters", over the encoder's size
    # Ways to judge each run, whose labels come before those of its cell; if there are none, the command line decides.
    judgments: Mapping[Labels, Judgment] = dataclasses.field(default_factory=dict)
    published: Sequence[Sequence[str]] = ()  # a table of other methods, its headings first

    def cells_of(self, base: Config) -> dict[Labels, Settings]:
        """The cells with `Times` resolved; multiples of whole numbers are whole and at least one."""

        def of(value: Any) -> Any:
            if isinstance(value, Tuned):
                return Tuned(tuple(map(of, value.choices)))
            if not isinstance(value, Times):
                return value
            before = base.value(value.name)
            return max(1, round(before * value.factor)) if isinstance(before, int) else before * value.factor

        return {
            tuple(x if isinstance(x, str) else f"{of(x):g}" for x in labels): {name: of(x) for name, x in cell.items()}
            for labels, cell in self.cells.items()
        }


@dataclasses.dataclass(frozen=True)
class Trial:
    """A cell with a seed: its labels, the settings of its run, the run's folder, and how the run is judged.

    Trials that differ by the judgment alone share a run and its folder.
    """

    labels: tuple[str, ...]
    settings: Settings
    folder: Path
    judgment: Judgment
    choice: Settings = dataclasses.field(default_factory=dict)  # those of its settings that are tuned

    def __str__(self) -> str:
        """Its name in messages."""
        return ", ".join([*self.labels, *filter(None, [self.tuned()]), f"seed {self.settings['seed']}"])

    def tuned(self) -> str:
        """The tuned settings in words."""
        return ", ".join(f"{name} {value:g}" for name, value in self.choice.items())

    @property
    def record(self) -> Path:
        """The file that exists once the trial is done."""
        mode, given = self.judgment.mode, self.judgment.settings
        settings, folder = MODES[mode](**given), self.folder / "evaluation"
        if isinstance(settings, Judged):
            pretrained_on = Config.of(**self.settings).data
            judged_on = data_source(settings, pretrained_on)
            folder = results_folder(self.folder, settings.layer, judged_on, pretrained_on)
        if isinstance(settings, Finetune):
            folder /= settings.name(mode)
        return folder / f"{mode}.json"

    @property
    def log(self) -> Path:
        """The file for the output of its processes."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def state(self) -> str:
        """`done`, `trained`, `begun` or `to do`."""
        if self._made(self.record):
            record = json.loads(self.record.read_text())
            with contextlib.suppress(KeyError):  # such as a transfer to other targets
                reduce(getitem, self.judgment.keys, record)
                return "done"
        if self._made(self.folder / "encoder" / "saved_model.pb"):  # the last file of a training run
            return "trained"
        return "begun" if (self.folder / "config.json").exists() else "to do"

    def _made(self, path: Path) -> bool:
        """Whether a file is there and of the whole training; a part of it may have been judged or exported by hand."""
        return path.exists() and run_folder.complete(self.folder, before=path)

    @property
    def diverged(self) -> Path | None:
        """The folder of the training, of the run or of its judgment, that has diverged or collapsed, as it would again."""
        return next(
            (folder for folder in (self.folder, self.record.parent) if (folder / run_folder.DIVERGED).exists()), None
        )

    @property
    def judged_as(self) -> str:
        """The record's place in the run's folder."""
        return self.record.relative_to(self.folder).as_posix()

    def usage(self) -> dict[str, Any]:
        """Seconds and memory, as recorded by `execution`, those of each judgment apart; empty for a run by other means."""
        path = self.folder / "study.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def measures(self) -> dict[str, Any]:
        """Everything that is known of a finished trial: its record, last epoch and usage; accuracies in percent."""
        last = read_rows(self.folder / "metrics.csv")[-1]
        record = json.loads(self.record.read_text())
        found = {
            "train_seconds": None,
            "top5": None,
            **record,
            "top1": reduce(getitem, self.judgment.keys, record),
            **last,
            **(usage := self.usage()),
            **usage.get(self.judged_as, {}),
            "train_loss": last["loss"],
        }
        if found.get("whole") is False:
            found["train_seconds"] = None  # that of a part of the training
        tried = record.get("hyper_parameters", {}).get("validation_top1", {})
        found["validation_top1"] = max(tried.values(), default=None)
        for name in ("top1", "top5", "contrastive_accuracy", "validation_top1"):
            found[name] = None if found[name] is None else round(100 * found[name], 10)
        return found


def plan(
    study: Study, given: Settings, folder: Path, seeds: int = 1, mode: str | None = None, only: Sequence[str] = ()
) -> list[Trial]:
    """The trials of a study, all of them checked.

    Tuned settings are tried with the first seed; a cell's further seeds, with the best of them, are planned once all of
    its trials of the first seed are done or have diverged.

    Args:
        study: The study.
        given: Settings of all runs; those of a cell go first.
        folder: Folder of the study, with a folder for each trial.
        seeds: How often to repeat each cell, from the given `seed` on.
        mode: Mode of the evaluation, "linear" by default; only for studies that leave it open.
        only: Labels; if given, cells with any other label are left out.

    Raises:
        ValueError: If a cell's settings or the mode are illegal, a folder holds another run, or `only` leaves nothing.
    """
    if mode and study.judgments:
        modes = ", ".join(dict.fromkeys(judgment.mode for judgment in study.judgments.values()))
        raise ValueError(f"This study judges by {modes}: leave `mode` out. Received: `mode={mode}`")
    judgments = study.judgments or {(): Judgment(mode or "linear")}
    base = Config.of(**given)
    points = {
        (*how, *labels): (labels, cell, judgment)
        for labels, cell in study.cells_of(base).items()
        for how, judgment in judgments.items()
    }
    known = {label for labels in points for label in labels}
    points = {labels: point for labels, point in points.items() if not only or set(labels) <= set(only)}
    if not (points and known.issuperset(only)):
        raise ValueError(
            f"`only` takes labels of {', '.join(sorted(known))}, one at least on each axis: {', '.join(study.axes)}. "
            f"Received: {', '.join(sorted(set(only) - known) or only)}"
        )
    first: list[Trial] = []
    for labels, (of_cell, cell, judgment) in points.items():
        for choice in _choices(cell):
            settings = {**given, **cell, **choice, "seed": base.training.seed}
            first.append(_trial(folder, labels, of_cell, settings, judgment, choice))
    validated = "validation_top1" in study.measures or any(trial.choice for trial in first)
    if validated and mode not in (None, *VALIDATED):
        raise ValueError(
            f"This study looks at validation images, as only {' and '.join(f'`mode={one}`' for one in VALIDATED)} do. "
            f"Received: `mode={mode}`"
        )
    # Seed by seed, so that the whole grid is there as soon as possible.
    later = [
        _trial(folder, trial.labels, points[trial.labels][0], {**trial.settings, "seed": base.training.seed + seed},
               trial.judgment, trial.choice)
        for seed in range(1, seeds) for trial in chosen(first, complete=True)
    ]  # fmt: skip
    return first + later


def chosen(trials: Sequence[Trial], complete: bool = False) -> list[Trial]:
    """The trials, except those whose tuned settings are not the best of their cell.

    Args:
        trials: Trials that `plan` returned.
        complete: Whether to leave out cells that still have something to try.
    """
    best: dict[Labels, Settings] = {}
    for labels in dict.fromkeys(trial.labels for trial in trials):
        cell = [trial for trial in trials if trial.labels == labels]
        choices = [trial for trial in cell if trial.settings["seed"] == cell[0].settings["seed"]]
        if len(choices) == 1:
            best[labels] = {}
            continue
        done = [trial for trial in choices if trial.state() == "done"]
        open_ones = [trial for trial in choices if trial not in done and not trial.diverged]
        if done and not (complete and open_ones):
            best[labels] = max(done, key=lambda trial: trial.measures()["validation_top1"]).choice
    return [trial for trial in trials if best.get(trial.labels) in (trial.choice, {})]


def _choices(cell: Settings) -> list[Settings]:
    """All combinations of the tuned settings of a cell; one without any, if there are none."""
    names = [name for name, value in cell.items() if isinstance(value, Tuned)]
    return [
        dict(zip(names, point, strict=True)) for point in itertools.product(*(cell[name].choices for name in names))
    ]


def _trial(
    folder: Path, labels: Labels, of_cell: Labels, settings: Settings, judgment: Judgment, choice: Settings
) -> Trial:
    parts = [*of_cell, *(f"{key}{value:g}" for key, value in choice.items())]
    name = re.sub(r"[^\w.]+", "_", "-".join(parts)) or "run"
    trial = Trial(labels, settings, folder / f"{name}-seed{settings['seed']}", judgment.complete(settings), choice)
    try:
        if different := Config.of(**settings).difference(trial.folder, same_data_dir=True):
            key, before, now = different
            raise ValueError(
                f"{trial.folder} was run with `{key}={before}`; give this study another `runs_dir`. "
                f"Received: `{key}={now}`"
            )
    except ValueError as error:
        raise ValueError(f"{trial}: {error}") from error
    return trial
