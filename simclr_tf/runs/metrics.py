"""The table of a run, `metrics.csv`: one row an epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from simclr_tf.runs.run_dir import write_text

COLUMNS = (
    "epoch",
    "step",
    "loss",
    "val_loss",
    "contrastive_accuracy",
    "contrastive_entropy",
    "learning_rate",
    "images_per_second",
)

Row = Mapping[str, int | float | None]


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics file.

    Args:
        path: The file.

    Returns:
        One mapping from `COLUMNS` to a value for each row, None for an empty cell; `epoch` and `step` are ints.

    Raises:
        ValueError: If the file is not a metrics file.
    """
    header, *lines = list(csv.reader(io.StringIO(path.read_text()))) or [[]]
    if tuple(header) != COLUMNS or any(len(cells) != len(COLUMNS) for cells in lines):
        raise ValueError(f"Expected a table with the columns {', '.join(COLUMNS)}. Received: {path}")
    return [{name: _value(name, cell) for name, cell in zip(COLUMNS, cells, strict=True)} for cells in lines]


def _value(name: str, cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if name in ("epoch", "step") else float(cell)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes a metrics file, atomically.

    Floats are written in full, so that equal numbers give equal text and reading gives the same numbers back.

    Args:
        path: The file.
        rows: Mappings from `COLUMNS` to values; None leaves a cell empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if row[name] is None else repr(row[name]) for name in COLUMNS])
    write_text(path, text.getvalue())
