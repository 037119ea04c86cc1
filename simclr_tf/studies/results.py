"""The report of a study: tables with the paper's values beside, the figure, and HParams for TensorBoard."""

import math
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from simclr_tf import files
from simclr_tf.files import write_text
from simclr_tf.studies.figures import draw
from simclr_tf.studies.study import MEASURES, Labels, Study, Summary, Trial, chosen

COLUMNS = ("validation_top1", "top1", "top5", "train_loss", "val_loss", "contrastive_accuracy", "contrastive_entropy",
           "train_seconds", "evaluate_seconds", "train_mib", "whole")  # fmt: skip

TUNED = (
    " The value under tuned was chosen for each cell with the first seed, by accuracy on the validation images; the other "
    "values are in the CSV file."
)


def write(study: Study, trials: Sequence[Trial], command: str, stem: Path, tensorboard: Path) -> None:
    """Writes the tables `stem`.csv and .md, the figure .png and the HParams of what is done so far."""
    write_csv(study, trials, stem.with_suffix(".csv"))
    draw(study, summarize(study, trials), stem.with_suffix(".png"))
    write_markdown(study, trials, command, stem.with_suffix(".md"))
    write_hparams(study, trials, tensorboard)


def summarize(study: Study, trials: Sequence[Trial]) -> Summary:
    """The values of each measure and the encoder's size, for each cell with a finished trial, the best of tuned ones."""
    cells: dict[Labels, list] = {trial.labels: [] for trial in trials}
    for trial in chosen(trials):
        cells[trial.labels] += [trial.measures()] if trial.state() == "done" else []
    names = (*study.measures, "encoder_parameters")

    def known(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
        return [row[name] for row in rows if row.get(name) is not None]

    return {labels: {name: known(rows, name) for name in names} for labels, rows in cells.items() if rows}


def pooled(cells: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation of a trial about its cell's mean, from all cells together; None where no cell has two seeds.

    With a few seeds, that of a single cell is little more than a guess; compare differences with this one.
    """
    cells = list(cells)
    squares = sum((value - fmean(cell)) ** 2 for cell in cells for value in cell)
    freedom = sum(len(cell) - 1 for cell in cells)
    return math.sqrt(squares / freedom) if freedom else None


def write_csv(study: Study, trials: Sequence[Trial], path: Path) -> None:
    """One row for each finished trial: labels, tuned settings, seed, measures, usage, folder."""
    names = dict.fromkeys(name for trial in trials for name in trial.choice)
    rows = (
        [*trial.labels, *map(trial.choice.get, names), trial.settings["seed"], *map(trial.measures().get, COLUMNS),
         trial.folder]
        for trial in trials if trial.state() == "done"
    )  # fmt: skip
    files.write_csv(path, [*study.axes, *names, "seed", *COLUMNS, "run_dir"], rows)


def write_markdown(study: Study, trials: Sequence[Trial], command: str, path: Path) -> None:
    """The report: question, command, table, figure."""
    summary = summarize(study, trials)
    done = sum(trial.state() == "done" for trial in trials)
    measure = study.measures[-1]
    # A guess is computed, and has no spread.
    guessed = {trial.labels for trial in trials if "guess" in trial.judgment.keys}
    noise = pooled(measures[measure] for labels, measures in summary.items() if labels not in guessed)
    modes = " and ".join(dict.fromkeys(trial.judgment.mode for trial in trials))
    lines = [
        f"# {study.title}", "", study.question, "", "```", command, "```", "",
        f"{done} of {len(trials)} runs are done. Mean ± standard deviation over seeds. Top-1 is measured by {modes} on the "
        f"{'validation' if measure == 'validation_top1' else 'test'} images."
        + (f" Pooled over all cells, the standard deviation of top-1 is {noise:.1f} points." if noise else "")
        + (TUNED if any(trial.choice for trial in trials) else ""),
        "", *table(study, trials, summary), "",
    ]  # fmt: skip
    if any(trial.labels in study.paper for trial in trials):
        lines += [f"Paper: {study.source}. Its data set, network and length differ: compare the order.", ""]
    if study.published:
        headings, *rows = study.published
        ruler = ["---" if column < 2 else "---:" for column in range(len(headings))]
        lines += ["Published figures, not run here:", "", *map(_row, (headings, ruler, *rows)), ""]
    write_text(path, "\n".join([*lines, f"![{study.title}]({path.with_suffix('.png').name})", ""]))


def table(study: Study, trials: Sequence[Trial], summary: Summary) -> list[str]:
    """The lines of a Markdown table, one a cell, including cells without a result yet."""
    cells = {trial.labels: study.paper.get(trial.labels) for trial in trials}
    headings, patterns = zip(*(MEASURES[name] for name in study.measures), strict=True)
    theirs = [f"paper: {heading}" for heading in headings] if any(cells.values()) else []
    best = {trial.labels: trial.tuned() for trial in chosen(trials)}
    names = [*study.axes, *(["tuned"] if any(best.values()) else [])]
    rows = [[*names, *headings, "seeds", *theirs], ["---"] * len(names) + ["---:"] * (len(headings) + 1 + len(theirs))]
    for labels, paper in cells.items():
        ours = [summary[labels][name] if labels in summary else [] for name in study.measures]
        beside = [f"{value:.1f}" for value in paper] if paper else [""] * len(theirs)
        # The mean needs one seed, the standard deviation two.
        shown = [
            " ± ".join(pattern.format(of(seeds)) for of in (fmean, stdev)[: len(seeds)])
            for pattern, seeds in zip(patterns, ours, strict=True)
        ]
        tuned = [best.get(labels, "")][: len(names) - len(study.axes)]
        rows.append([*labels, *tuned, *shown, str(len(ours[-1])), *beside])
    return list(map(_row, rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_hparams(study: Study, trials: Sequence[Trial], folder: Path) -> None:
    """Labels, settings and measures of the finished trials for TensorBoard; replaces what is in the folder."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    shutil.rmtree(folder, ignore_errors=True)
    varied = {"seed"}.union(*study.cells.values())
    for trial in chosen(trials):
        if trial.state() == "done":
            name = re.sub(r"[^\w.]+", "_", str(trial)) if study.judgments else trial.folder.name
            hparams = dict(zip(study.axes, trial.labels, strict=True))
            given = {name: value for name, value in trial.settings.items() if name in varied and value is not None}
            hparams |= {f"--{name}": value for name, value in given.items()}
            with tf.summary.create_file_writer(str(folder / name)).as_default():
                hp.hparams(hparams, trial_id=name)
                for measure in MEASURES:
                    if (value := trial.measures()[measure]) is not None:
                        tf.summary.scalar(measure, value, step=0)
