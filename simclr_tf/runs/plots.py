"""The pictures of a run: its loss curves, and images beside their views.

Figures are drawn on objects of their own, never through pyplot, whose global state and choice of a window system are
not a library's to touch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simclr_tf.runs.metrics import Row, read_rows
from simclr_tf.runs.run_dir import replacing

# Apart in hue and in lightness: also for colour-blind readers and in grey print (Okabe and Ito's palette).
_TRAINING, _VALIDATION = "#0072B2", "#E69F00"
_INK, _GRID = "#333333", "#DDDDDD"

_GUTTER = 2  # pixels between images
_DPI = 100


def loss_curves(metrics_csv: Path, out: Path) -> None:
    """Draws training and validation loss, and contrastive accuracy, over the epochs.

    Args:
        metrics_csv: The metrics of a run.
        out: PNG file to write.

    Raises:
        ValueError: If the table is not one of metrics, or has no rows.
    """
    rows = read_rows(metrics_csv)
    if not rows:
        raise ValueError(f"There is no epoch to draw. Received: {metrics_csv}")
    figure = Figure(figsize=(10, 4), dpi=1.5 * _DPI, layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _curve(left, rows, "loss", "training", _TRAINING)
    _curve(left, rows, "val_loss", "validation", _VALIDATION)
    _finish(left, "Contrastive loss", "loss")
    _curve(right, rows, "contrastive_accuracy", "training", _TRAINING)
    _finish(right, "Contrastive accuracy", "positives ranked first")
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    _save(figure, out)


def _curve(axes: Axes, rows: Sequence[Row], column: str, label: str, color: str) -> None:
    points = [(row["epoch"], row[column]) for row in rows if row[column] is not None]
    if points:
        # Markers keep a run of one epoch visible; on a long run they would only thicken the line.
        marker = "o" if len(points) <= 30 else ""
        axes.plot(*zip(*points, strict=True), color=color, label=label, marker=marker, markersize=4, linewidth=1.8)


def _finish(axes: Axes, title: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", color=_INK)
    axes.set_xlabel("epoch", color=_INK)
    axes.set_ylabel(ylabel, color=_INK)
    # One tick suffices: with the usual two, a run of one epoch gets fractions of it.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(colors=_INK, length=0)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=_GRID)
    if axes.lines:
        axes.legend(frameon=False, labelcolor=_INK)


def image_grid(rows: Sequence[np.ndarray], row_labels: Sequence[str], out: Path, scale: int = 2) -> None:
    """Draws strips of images under each other, such as originals, first views and second views.

    Args:
        rows: Strips, each uint8 `(n, H, W, C)`, of one n, H and W; C = 1 or 3.
        row_labels: A label for each, written to its left.
        out: PNG file to write.
        scale: Picture pixels an image pixel, a positive integer; pixels are repeated, never smoothed.

    Raises:
        ValueError: If the strips do not fit together, or there is not one label for each.
    """
    if len(rows) != len(row_labels):
        raise ValueError(f"Expected a label for each row. Received: {len(rows)} rows, {len(row_labels)} labels")
    picture = tile(rows, scale)
    height, width = picture.shape[:2]
    margin = 16 + 8 * max(len(label) for label in row_labels)  # pixels; 8 is a wide letter of this font size
    figure = Figure(figsize=((margin + width) / _DPI, height / _DPI), dpi=_DPI)
    # figimage copies pixels one to one, where imshow would resample them.
    figure.figimage(picture, xo=margin, yo=0)
    for index, label in enumerate(row_labels):
        middle = 1 - (index + 0.5) / len(rows)
        x = (margin - 8) / (margin + width)
        figure.text(x, middle, label, ha="right", va="center", fontsize=10, color=_INK)
    _save(figure, out)


def tile(rows: Sequence[np.ndarray], scale: int = 1) -> np.ndarray:
    """One picture of strips of images, on white.

    Args:
        rows: Strips, each uint8 `(n, H, W, C)`, of one n, H and W; C = 1 or 3.
        scale: Picture pixels an image pixel, a positive integer.

    Returns:
        uint8 `(H', W', 3)`.

    Raises:
        ValueError: If there are no images or the strips do not fit together.
    """
    _check_strips(rows)
    if scale < 1:
        raise ValueError(f"scale must be a positive integer. Received: {scale}")
    # (rows, n, H, W, 3)
    images = np.stack([np.broadcast_to(strip, (*strip.shape[:3], 3)) for strip in rows])
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    half = _GUTTER // 2
    images = np.pad(images, ((0, 0), (0, 0), (half, half), (half, half), (0, 0)), constant_values=255)
    strips, n, height, width, _ = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(strips * height, n * width, 3)


def _check_strips(rows: Sequence[np.ndarray]) -> None:
    fits = all(strip.dtype == np.uint8 and strip.ndim == 4 and strip.shape[3] in (1, 3) for strip in rows)
    if not fits or len({strip.shape[:3] for strip in rows}) != 1 or 0 in rows[0].shape:
        found = [f"{strip.dtype} {strip.shape}" for strip in rows]
        raise ValueError(f"Expected rows of uint8 images (n, H, W, 1 or 3) of one n, H and W. Received: {found}")


def _save(figure: Figure, out: Path) -> None:
    with replacing(out) as file:
        # Without the version of matplotlib in it, equal pictures are equal files.
        figure.savefig(file, format="png", metadata={"Software": None})
