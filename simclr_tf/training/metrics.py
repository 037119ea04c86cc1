"""The table of a run, `metrics.csv`: one row an epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from simclr_tf.files import write_csv

FIRST, LAST = ("epoch", "step"), ("learning_rate", "images_per_second")  # between them is what the model measures

Row = Mapping[str, int | float | None]


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics file, None for an empty cell; raises ValueError if the file is another one."""
    try:
        header, *lines = [*csv.reader(io.StringIO(path.read_text()))] or [[]]
        if tuple(header[:2]) != FIRST or tuple(header[-2:]) != LAST or any(len(row) != len(header) for row in lines):
            raise ValueError(f"the columns {', '.join(header)[:80]}")
        return [{name: _value(name, cell) for name, cell in zip(header, cells, strict=True)} for cells in lines]
    except (ValueError, csv.Error) as error:
        columns = ", ".join([*FIRST, "...", *LAST])
        raise ValueError(f"Expected a table with the columns {columns}. Received: {path} ({error})") from error


def _value(name: str, cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if name in FIRST else float(cell)


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Writes a metrics file, whole or not at all; a value that is None or missing leaves its cell empty.

    Floats are written in full, so that equal numbers give equal text and reading gives the same numbers back.
    """
    cells = (["" if row.get(name) is None else repr(row[name]) for name in columns] for row in rows)
    write_csv(path, columns, cells)
