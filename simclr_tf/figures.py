"""How every picture of the project is drawn and saved: one palette, one style of axes, one way to write a file.

Figures are drawn on objects of their own, never through pyplot, whose global state and choice of a window system are
not a library's to touch.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simclr_tf.files import replacing

# Okabe and Ito's palette: distinct in hue and in lightness, also for color-blind readers and in gray print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
INK, GRID = "#333333", "#DDDDDD"
DPI = 100


def png(figure: Figure, **options) -> bytes:
    """A figure as PNG; without matplotlib's version in it, equal pictures are equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None}, **options)
    return file.getvalue()


def save(figure: Figure, out: Path, **options) -> None:
    """Writes a figure as a PNG file."""
    with replacing(out) as file:
        file.write(png(figure, **options))


def finish(
    axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "", grid: Literal["both", "x", "y"] = "both"
) -> None:
    """Gives axes the project's style: a light grid instead of a frame, one ink for all text."""
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def image_grid(
    rows: Sequence[np.ndarray], row_labels: Sequence[str], out: Path, scale: int = 2, titles: Sequence[str] = ()
) -> None:
    """Draws strips of images under each other, such as originals, first views and second views.

    Args:
        rows: Strips, each uint8 `(n, H, W, C)`, of one n, H and W; C = 1 or 3.
        row_labels: A label for each, written to its left.
        out: PNG file to write.
        scale: Picture pixels an image pixel, a positive integer; pixels are repeated, never smoothed.
        titles: One for each column, if any.

    Raises:
        ValueError: If the strips do not fit together, or there is not one label for each.
    """
    if len(rows) != len(row_labels):
        raise ValueError(f"Expected a label for each row. Received: {len(rows)} rows, {len(row_labels)} labels")
    picture = tile(rows, scale)
    height, width = picture.shape[:2]
    margin = 16 + 8 * max(len(label) for label in row_labels)  # pixels; 8 is a wide letter of this font size
    head = 24 if titles else 0
    figure = Figure(figsize=((margin + width) / DPI, (head + height) / DPI), dpi=DPI)
    # figimage copies pixels one to one, where imshow would resample them.
    figure.figimage(picture, xo=margin, yo=0)
    for index, label in enumerate(row_labels):
        y = (1 - (index + 0.5) / len(rows)) * height / (head + height)
        figure.text(
            (margin - 8) / (margin + width), y, label, ha="right", va="center", fontsize=10, color=INK, parse_math=False
        )
    for index, title in enumerate(titles):
        x = (margin + (index + 0.5) * width / len(titles)) / (margin + width)
        figure.text(x, 1 - head / 2 / (head + height), title, ha="center", va="center", fontsize=10, color=INK)
    save(figure, out)


def tile(rows: Sequence[np.ndarray], scale: int = 1) -> np.ndarray:
    """The picture of `image_grid` without labels, uint8 (H', W', 3); raises ValueError if strips do not fit together."""
    fits = all(strip.dtype == np.uint8 and strip.ndim == 4 and strip.shape[3] in (1, 3) for strip in rows)
    if not fits or len({strip.shape[:3] for strip in rows}) != 1 or 0 in rows[0].shape:
        found = [f"{strip.dtype} {strip.shape}" for strip in rows]
        raise ValueError(f"Expected rows of uint8 images (n, H, W, 1 or 3) of one n, H and W. Received: {found}")
    if scale < 1:
        raise ValueError(f"scale must be a positive integer. Received: {scale}")
    # (rows, n, H, W, 3)
    images = np.stack([np.broadcast_to(strip, (*strip.shape[:3], 3)) for strip in rows])
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    # A gutter of two pixels between images.
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    strips, n, height, width, _ = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(strips * height, n * width, 3)
