"""Which data a run is judged on, and where in its folder the results of that lie."""

import hashlib
import re
from pathlib import Path

from simclr_tf.config import Data, Judged


def data_source(settings: Judged, pretrained_on: Data) -> tuple[str, str | None]:
    """Name and folder of the data to judge on: those of the settings, else the run's, whose folder goes with its name."""
    dataset, data_dir = pretrained_on.judged_on
    if settings.dataset and settings.dataset != dataset:
        own = pretrained_on.data_dir if settings.dataset == pretrained_on.dataset else None
        return settings.dataset, settings.data_dir or own
    return dataset, settings.data_dir or data_dir


def results_folder(run_dir: Path, layer: int, judged_on: tuple[str, str | None], pretrained_on: Data) -> Path:
    """Where the results go: results on other data than the run's get a folder of their own."""
    folder, (name, data_dir) = run_dir / "evaluation" / (f"layer{layer}" if layer else ""), judged_on
    dataset, default = pretrained_on.judged_on
    moved = data_dir and default and Path(data_dir).resolve() != Path(default).resolve()
    if name == dataset and not moved and (name != "folder" or default):
        return folder
    return folder / name_of(name, data_dir)


def name_of(dataset: str, data_dir: str | None) -> str:
    """A name for a data set in a folder, fit for a file; data sets of one name in two folders have two."""
    kind, _, rest = dataset.partition(":")
    place = rest if kind == "records" else data_dir
    path = Path(place).resolve() if place else None
    shown = re.sub("[^A-Za-z0-9._-]", "_", path.name if path and kind in ("folder", "records") else dataset)
    if not path:
        return shown
    return f"{shown}-{hashlib.sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:6]}"
