"""The figures of the studies, in the paper's forms: heat map, grouped bars, accuracy over parameters."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from simclr_tf.figures import COLORS, INK, finish, save
from simclr_tf.studies.study import MEASURES, Labels, Study, Summary

Values = Mapping[Labels, Sequence[float]]


def draw(study: Study, summary: Summary, out: Path) -> None:
    """Draws the last measure of a study, as made by `results.summarize`, and beside it the paper's.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not summary:
        raise ValueError(f"No run of the study is done. Received: {study.title}")
    name = study.measures[-1]
    panels: dict[str, Values] = {"this study": {labels: measures[name] for labels, measures in summary.items()}}
    # Only the paper's cells that were run here, too: it is their order that can be compared.
    if paper := {labels: study.paper[labels][-1:] for labels in summary if labels in study.paper}:
        panels["the paper"] = paper
    width, height = 7.0, 4.5
    if study.figure == "heatmap":
        width, height = 2.5 + 0.65 * len(_labels(summary, 1)), 1.8 + 0.6 * len(_labels(summary, 0))
    figure = Figure(figsize=(width * len(panels), height), dpi=150, layout="constrained")
    for axes, (title, values) in zip(np.ravel(figure.subplots(1, len(panels))), panels.items(), strict=True):
        finish(axes, f"{title}: {MEASURES[name][0]}", grid="y")
        draw_panel = _heatmap if study.figure == "heatmap" else _marks
        if study.figure == "bars" and len(study.axes) == 1:
            draw_panel = _rows
        draw_panel(axes, study, values, summary)
    # Tight, because a small heat map leaves too little room for its titles and labels.
    save(figure, out, bbox_inches="tight")


def _labels(cells: Iterable[Labels], axis: int) -> list[str]:
    return list(dict.fromkeys(labels[axis] for labels in cells))


def _heatmap(axes: Axes, study: Study, values: Values, summary: Summary) -> None:
    """Rows of the first axis, columns of the second, and the mean of each row as the last column, as in figure 5."""
    rows, columns = _labels(values, 0), _labels(values, 1)
    matrix, errors = np.full((len(rows), len(columns) + 1), np.nan), {}
    for (row, column), cell in values.items():
        at = rows.index(row), columns.index(column)
        matrix[at], errors[at] = fmean(cell), f"\n± {stdev(cell):.1f}" if len(cell) > 1 else ""
    matrix[:, -1] = np.nanmean(matrix[:, :-1], axis=1)
    axes.imshow(matrix, cmap="Blues")
    middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
    for (y, x), mean in np.ndenumerate(matrix):
        if np.isfinite(mean):
            text, color = f"{mean:.1f}{errors.get((y, x), '')}", "white" if mean > middle else INK
            axes.text(x, y, text, ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(columns) + 1), [*columns, "average"], rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=study.axes[1], ylabel=study.axes[0])
    axes.grid(False)


def _rows(axes: Axes, study: Study, values: Values, summary: Summary) -> None:
    """A bar for each cell, under each other so that long labels have room, with standard deviations."""
    for y, cell in enumerate(values.values()):
        axes.barh(y, fmean(cell), 0.7, color=COLORS[0])
        if len(cell) > 1:
            axes.errorbar(fmean(cell), y, xerr=stdev(cell), ecolor=INK, elinewidth=1)
        axes.annotate(f" {fmean(cell):.1f}", (0, y), va="center", fontsize=8, color="white")
    axes.set_yticks(range(len(values)), [label.replace("_", " ") for (label,) in values])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _marks(axes: Axes, study: Study, values: Values, summary: Summary) -> None:
    """Bars in groups of the last axis, or points over the encoder's size as in figure 7, with standard deviations.

    A label has the color of its place in the whole study, also in a panel that has fewer.
    """
    bars, groups = study.figure == "bars", _labels(values, -1)
    # Along the x axis are the labels of the last axis, or the sizes of encoders; the others are told by the color.
    apart = slice(0, -1) if bars else slice(0, 1)
    kinds = [", ".join(labels[apart]) for labels in summary]
    colors = dict(zip(dict.fromkeys(kinds), cycle(COLORS), strict=False))
    width = 0.8 / len(colors)
    for labels, cell in values.items():
        mean, color = fmean(cell), colors[", ".join(labels[apart])]
        if bars:
            beside = [other for other in values if other[-1] == labels[-1]]
            x = groups.index(labels[-1]) + (beside.index(labels) - (len(beside) - 1) / 2) * width
            axes.bar(x, mean, width * 0.92, color=color)
        else:
            x = summary[labels]["encoder_parameters"][0] / 1e6
            axes.plot(x, mean, "o", color=color)
            axes.annotate(
                labels[study.axes.index("encoder")],
                (x, mean),
                (4, 4),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
        if len(cell) > 1:
            axes.errorbar(x, mean, stdev(cell), ecolor=INK, elinewidth=1)
    if bars:
        axes.set_xlabel(study.axes[-1])
        axes.set_xticks(range(len(groups)), [group.replace("_", "\n") for group in groups])
        axes.set_ylim(0, 1.25 * axes.dataLim.y1)  # from zero, as a bar should, with room for the legend
    else:
        axes.set(xlabel="parameters of the encoder (millions)", xscale="log")
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
        axes.margins(0.15)
    handles = [Patch(color=color, label=label) for label, color in colors.items()]
    axes.legend(handles=handles, frameon=False, labelcolor=INK, fontsize=8, ncols=2, title=", ".join(study.axes[apart]))
