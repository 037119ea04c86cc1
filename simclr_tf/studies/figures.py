"""The figures of the studies, in the paper's forms: heat map, grouped bars, accuracy over parameters."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from simclr_tf.studies.results import Labels, Spread
from simclr_tf.studies.study import MEASURES, Study
from simclr_tf.training.run_folder import replacing

# Okabe and Ito's palette, apart in hue and in lightness.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_INK = "#333333"
Values = Mapping[Labels, Spread]


def draw(
    study: Study, summary: Mapping[Labels, Mapping[str, Spread]], out: Path, parameters: Mapping[Labels, int]
) -> None:
    """Draws the last measure of a study and, beside it, the paper's.

    Args:
        study: which.
        summary: as made by `results.summarize`; not empty.
        out: PNG file to write.
        parameters: of each cell's encoder, for the figures that need them.

    Raises:
        ValueError: when there is nothing to draw.
    """
    if not summary:
        raise ValueError(f"No run of the study is done. Received: {study.title}")
    name = study.measures[-1]
    ours = {labels: measures[name] for labels, measures in summary.items()}
    # Of the paper's, what was run here: the order is to be compared.
    theirs = {labels: Spread(values[-1], None, 1) for labels, values in study.beside(ours).items()}
    panels = [("this study", ours), *([("the paper", theirs)] if theirs else [])]
    width, height = SIZES[study.figure](ours)
    figure = Figure(figsize=(width * len(panels), height), dpi=150, layout="constrained")
    for axes, (title, values) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        if study.figure == "heatmap":
            heatmap(axes, study, values)
        elif study.figure == "parameters":
            _parameters(axes, study, values, _labels(ours, -1) if len(study.axes) > 1 else [""], parameters)
        else:
            bars(axes, study, values, _labels(ours, 0))
        axes.set_title(f"{title}: {MEASURES[name][0]}", loc="left", color=_INK)
    with replacing(out) as file:
        # Tight: a small grid of squares leaves its titles and labels too little room within the figure's size.
        figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})


def _labels(values: Values, axis: int) -> list[str]:
    return list(dict.fromkeys(labels[axis] for labels in values))


def heatmap(axes: Axes, study: Study, values: Values) -> None:
    """Rows of the first axis, columns of the second, and the mean of each row as the last column, as in figure 5."""
    rows, columns = _labels(values, 0), _labels(values, 1)
    matrix = np.full((len(rows), len(columns) + 1), np.nan)
    spreads = {}
    for (row, column), value in values.items():
        at = rows.index(row), columns.index(column)
        matrix[at], spreads[at] = value.mean, "" if value.std is None else f"\n± {value.std:.1f}"
    matrix[:, -1] = np.nanmean(matrix[:, :-1], axis=1)
    axes.imshow(matrix, cmap="Blues")
    middle = (np.nanmin(matrix) + np.nanmax(matrix)) / 2
    for (y, x), mean in np.ndenumerate(matrix):
        if np.isfinite(mean):
            color = "white" if mean > middle else _INK
            text = f"{mean:.1f}{spreads.get((y, x), '')}"
            axes.text(x, y, text, ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(columns) + 1), [*columns, "average"], rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=study.axes[1], ylabel=study.axes[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def bars(axes: Axes, study: Study, values: Values, series: list[str]) -> None:
    """Bars in groups of the second axis, one of each label on the first, with standard deviations.

    A label has the color of its place in `series`, the same in both panels also where one of them has fewer.
    """
    groups = _labels(values, 1) if len(study.axes) > 1 else [""]
    width = 0.8 / len(series)
    cells = {(*labels, "")[:2]: value for labels, value in values.items()}  # a study of one axis has one group
    present = [[name for name in series if (name, group) in cells] for group in groups]
    for index, name in enumerate(series):
        points = [(at, cells[name, group]) for at, group in enumerate(groups) if name in present[at]]
        if not points:
            continue
        where = [at + (present[at].index(name) - (len(present[at]) - 1) / 2) * width for at, _ in points]
        axes.bar(
            where, [value.mean for _, value in points], width * 0.92, color=COLORS[index % len(COLORS)], label=name,
            yerr=[value.std or 0 for _, value in points], error_kw={"linewidth": 1, "ecolor": _INK},
        )  # fmt: skip
    axes.set_xticks(range(len(groups)), [group.replace("_", "\n") for group in groups])
    axes.set_xlabel(study.axes[1] if len(study.axes) > 1 else "", color=_INK)
    axes.set_ylim(*_limits(values))
    _finish(axes, study)


def _limits(values: Values) -> tuple[float, float]:
    """From zero, as a bar should, with room for the legend."""
    return 0, 1.25 * max(value.mean + (value.std or 0) for value in values.values())


def _parameters(axes: Axes, study: Study, values: Values, series: list[str], parameters: Mapping[Labels, int]) -> None:
    """Accuracy over millions of parameters, as in figure 7; one color for each label on the last axis."""
    for index, name in enumerate(series):
        points = [labels for labels in values if labels in parameters and name in ("", labels[-1])]
        if not points:
            continue
        axes.errorbar(
            [parameters[labels] / 1e6 for labels in points], [values[labels].mean for labels in points],
            yerr=[values[labels].std or 0 for labels in points], fmt="o", color=COLORS[index % len(COLORS)],
            label=f"{study.axes[-1]} {name}" if name else None,
        )  # fmt: skip
        for labels in points:
            at = (parameters[labels] / 1e6, values[labels].mean)
            axes.annotate(labels[0], at, (4, 4), textcoords="offset points", fontsize=8, color=_INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.15)
    axes.set_xlabel("parameters of the encoder (millions)", color=_INK)
    _finish(axes, study)


def _finish(axes: Axes, study: Study) -> None:
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=_INK, length=0)
    if len(axes.get_legend_handles_labels()[1]) > 0:
        axes.legend(frameon=False, labelcolor=_INK, fontsize=8, ncols=2, title=study.axes[0] if study.figure == "bars"
                    else None)  # fmt: skip


SIZES: dict[str, Callable[[Values], tuple[float, float]]] = {
    "bars": lambda values: (min(12, max(5.0, 2 + 0.45 * len(values))), 4),
    "heatmap": lambda values: (2.5 + 0.65 * len(_labels(values, 1)), 1.8 + 0.6 * len(_labels(values, 0))),
    "parameters": lambda values: (7, 4.5),
}
