"""What an evaluation leaves behind: a JSON record, a picture of the confusion matrix, and one table on the screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import confusion_matrix

from simclr_tf import figures, files

ANNOTATED = 20  # classes up to which the percentages can be read in the picture
NAMED = 100  # classes up to which the names can
TRAINED = {"finetune": "fine-tuned encoder", "supervised": "network from scratch"}  # not judged as it was pretrained


def write(
    record: dict[str, Any], labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str], out_dir: str | Path
) -> Path:
    """Writes `<mode>.json`, whose path it returns, and `<mode>_confusion.png`, each of them whole or not at all."""
    out_dir = Path(out_dir)
    figure = confusion_figure(labels, predictions, class_names)
    title = f"{record['dataset']}, {_protocol(record)}: top-1 {100 * record['top1']:.1f} %"
    figure.axes[0].set_title(title, parse_math=False)
    figures.save(figure, out_dir / f"{record['mode']}_confusion.png")
    path = out_dir / f"{record['mode']}.json"
    files.write_json(path, record)
    return path


def confusion_figure(labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Confusion matrix, each row in percent of the images of that class; rows without images are 0."""
    count = len(class_names)
    matrix = confusion_matrix(labels, predictions, labels=np.arange(count)).astype(float)
    matrix *= 100 / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.5 + 0.5 * count, 4.5, 14))
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="% of the images of the class", shrink=0.75)
    axes.set(xlabel="predicted class", ylabel="true class")
    if count <= NAMED:
        size = float(np.clip(250 / count, 5, 10))
        names = [name if len(name) <= 24 else f"{name[:23]}…" for name in class_names]
        # A dollar sign in a folder's name does not begin a formula.
        axes.set_xticks(range(count), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=size, parse_math=False)
    if count <= ANNOTATED:
        for (row, column), value in np.ndenumerate(matrix):
            color = "white" if value > 55 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color=color)
    return figure


def table(record: dict[str, Any]) -> Table:
    """The record as a table: what was judged, then the baselines; top-5 only with more than five classes."""
    judged = TRAINED.get(record["mode"], "pretrained encoder")
    result = Table(title=f"{_protocol(record)} on {record['dataset']}", collapse_padding=True)
    accuracies = ["top1"] if record["top5"] is None else ["top1", "top5"]
    result.add_column("features", no_wrap=True)
    percentages = [f"top-{accuracy[-1]} %" for accuracy in accuracies]
    for heading in (percentages[0], "95 % interval", *percentages[1:], "training images", "test images"):
        result.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    for name, row in {judged: record, **record["baselines"]}.items():
        percent = [f"{100 * row[accuracy]:.1f}" for accuracy in accuracies]
        interval = " to ".join(f"{100 * end:.1f}" for end in row["interval"])
        result.add_row(name, percent[0], interval, *percent[1:], f"{row['n_train']:,}", f"{row['n_test']:,}")
        for k, top1 in row["hyper_parameters"].get("top1", {}).items():
            result.add_row(f"  {k} neighbor{'s' if k != '1' else ''}", f"{100 * top1:.1f}")
    return result


def _protocol(record: dict[str, Any]) -> str:
    return record["mode"] + ("" if record["mode"] in TRAINED else " probe")


def show(record: dict[str, Any], path: Path, console: Console | None = None) -> None:
    """Prints the record's table and the path of its file; to standard output where no console is given."""
    console = console or Console()
    console.print(table(record))
    # Not wrapped, so that it can be copied.
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
