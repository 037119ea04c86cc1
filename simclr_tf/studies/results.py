"""What a study comes to: a table of all runs, and one of means and standard deviations with the paper's beside."""

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from simclr_tf.studies.runs import Run
from simclr_tf.studies.study import MEASURES, Study
from simclr_tf.training.run_folder import write_text

COLUMNS = ("top1", "top5", "train_loss", "val_loss", "contrastive_accuracy", "contrastive_entropy",
           "train_seconds", "evaluate_seconds", "train_mib", "whole")  # fmt: skip
Labels = tuple[str, ...]


class Spread(NamedTuple):
    """Mean of a measure over the seeds of a cell.

    Attributes:
        mean: of them.
        std: the standard deviation of a sample, None for a single one.
        seeds: how many.
    """

    mean: float
    std: float | None
    seeds: int


def summarize(study: Study, runs: Sequence[Run]) -> dict[Labels, dict[str, Spread]]:
    """Each measure of each cell, in the order of the grid; cells without a finished run are left out."""
    found: dict[Labels, list[dict]] = {}
    for run in runs:
        if run.state() == "done":
            found.setdefault(run.cell.labels, []).append(run.measures())
    order = dict.fromkeys(run.cell.labels for run in runs)
    return {
        labels: {name: spread([row[name] for row in found[labels]]) for name in study.measures}
        for labels in order
        if labels in found
    }


def parameters(study: Study, runs: Sequence[Run]) -> dict[Labels, int]:
    """The size of each cell's encoder, for figures over it; nothing for others."""
    if study.figure != "parameters":
        return {}
    records = {run.cell.labels: json.loads(run.record.read_text()) for run in runs if run.state() == "done"}
    return {labels: record["encoder_parameters"] for labels, record in records.items()}


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def pooled(spreads: Iterable[Spread]) -> float | None:
    """Standard deviation of a run about its cell's mean, from all cells together; None where no cell has two seeds.

    Of a few seeds a single cell's is little more than a guess; all cells' together is what differences are to be held
    against.
    """
    known = [(spread.std**2, spread.seeds - 1) for spread in spreads if spread.std is not None]
    if not known:
        return None
    return math.sqrt(sum(variance * freedom for variance, freedom in known) / sum(freedom for _, freedom in known))


def write_csv(study: Study, runs: Sequence[Run], path: Path) -> None:
    """One row a finished run: labels, seed, measures, what it took, its folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*study.axes, "seed", *COLUMNS, "run_dir"])
    for run in runs:
        if run.state() == "done":
            measures = run.measures()
            writer.writerow([*run.cell.labels, run.seed, *(measures.get(name) for name in COLUMNS), run.folder])
    write_text(path, text.getvalue())


def write_markdown(study: Study, runs: Sequence[Run], command: str, figure: str, path: Path) -> None:
    """The report: question, command, table, figure."""
    summary = summarize(study, runs)
    done = sum(run.state() == "done" for run in runs)
    noise = pooled(measures["top1"] for measures in summary.values())
    lines = [
        f"# {study.title}", "", study.question, "", "```", command, "```", "",
        f"{done} of {len(runs)} runs are done. Mean ± standard deviation over seeds; top-1 is that of the "
        f"{runs[0].mode} probe on the test images."
        + (f" Pooled over all cells, the standard deviation of top-1 is {noise:.1f} points." if noise else ""),
        "", *table(study, runs, summary), "",
    ]  # fmt: skip
    if study.beside(run.cell.labels for run in runs):
        lines += [f"Of the paper: {study.source}. Another data set, network and length: compare the order.", ""]
    lines += [f"![{study.title}]({figure})", ""]
    write_text(path, "\n".join(lines))


def table(study: Study, runs: Sequence[Run], summary: dict[Labels, dict[str, Spread]]) -> list[str]:
    """The lines of a Markdown table, one a cell, with cells that have no result yet."""
    cells = list(dict.fromkeys(run.cell.labels for run in runs))
    headings, paper = [MEASURES[name][0] for name in study.measures], study.beside(cells)
    theirs = [f"paper: {heading}" for heading in headings] if paper else []
    rows = [[*study.axes, *headings, "seeds", *theirs]]
    rows.append(["---"] * len(study.axes) + ["---:"] * (len(rows[0]) - len(study.axes)))
    for labels in cells:
        ours = [shown(name, summary[labels][name]) if labels in summary else "" for name in study.measures]
        count = str(summary[labels][study.measures[-1]].seeds) if labels in summary else "0"
        beside = [f"{value:.1f}" for value in paper[labels]] if labels in paper else [""] * len(theirs)
        rows.append([*labels, *ours, count, *beside])
    return [f"| {' | '.join(row)} |" for row in rows]


def shown(name: str, value: Spread) -> str:
    """`mean ± std`, as many digits as the measure deserves."""
    pattern = MEASURES[name][1]
    return pattern.format(value.mean) + ("" if value.std is None else f" ± {pattern.format(value.std)}")
