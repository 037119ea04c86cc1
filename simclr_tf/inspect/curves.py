"""The curves of a run: losses and contrastive accuracy over its epochs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simclr_tf import figures
from simclr_tf.training.metrics import Row, read_rows

_TRAINING, _VALIDATION = figures.COLORS[:2]


def loss_curves(metrics_csv: Path, out: Path) -> None:
    """Draws the losses and contrastive accuracy of a run as PNG; raises ValueError if its table has no epoch."""
    figures.save(loss_figure(metrics_csv), out)


def loss_figure(metrics_csv: Path) -> Figure:
    """The figure of `loss_curves`."""
    rows = read_rows(metrics_csv)
    if not rows:
        raise ValueError(f"There is no epoch to draw. Received: {metrics_csv}")
    figure = Figure(figsize=(10, 4), dpi=1.5 * figures.DPI, layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _curve(left, rows, "loss", "training", _TRAINING)
    _curve(left, rows, "val_loss", "validation", _VALIDATION)
    _finish(left, "Contrastive loss", "loss")
    _curve(right, rows, "contrastive_accuracy", "training", _TRAINING)
    _finish(right, "Contrastive accuracy", "positives ranked first")
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    return figure


def _curve(axes: Axes, rows: Sequence[Row], column: str, label: str, color: str) -> None:
    # The table of a run that was trained by another program may lack a column.
    points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
    if points:
        # Markers keep a run of one epoch visible; on a long run they would only thicken the line.
        marker = "o" if len(points) <= 30 else ""
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, markersize=4, linewidth=1.8)


def _finish(axes: Axes, title: str, ylabel: str) -> None:
    figures.finish(axes, title, "epoch", ylabel)
    # One tick suffices: with the usual two, a run of one epoch gets fractions of it.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines["bottom"].set(visible=True, color=figures.GRID)
    if axes.lines:
        axes.legend(frameon=False, labelcolor=figures.INK)
