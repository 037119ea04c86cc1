"""The folder of a run, opened without harm to what is there and by one process at a time."""

import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from simclr_tf import files
from simclr_tf.config import PLACES, Config
from simclr_tf.training import checkpoints, metrics

PREVIEW = ("views.png", "operators.png", "histograms.png")  # what `--preview` draws, also where a run will be
AT = "at"  # folder of the folders that `at` makes
DIVERGED = "divergence.json"  # what a run leaves behind whose loss or gradient is no longer finite
PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy", "tensorboard")

_GIT_TIMEOUT = 5.0  # seconds; a repository on a slow network drive must not hold up a run


def open_run_dir(path: str | None, name: str, overwrite: bool, resume: bool) -> Path:
    """Creates the folder of a run, or opens an existing one where that was asked for.

    Args:
        path: Folder of the run; None for a new `runs/<YYYYmmdd-HHMMSS>-<name>`.
        name: Name of the run in that of the default folder.
        overwrite: Whether to empty a folder that holds a run.
        resume: Whether to open a folder that holds a run, or nothing yet, and leave it as it is.

    Raises:
        ValueError: If `check` refuses the folder, or another process is training in it.
    """
    if path is None:
        folder = _new_run_dir(name)
        files.claim(folder)
        return folder
    folder = Path(path)
    check(folder, overwrite, resume)
    if not files.claim(folder):
        raise ValueError(
            f"Another process is training in this `run_dir`: wait for it or name another folder. Received: {folder}"
        )
    check(folder, overwrite, resume)  # again, since another process may have been in it until now
    if overwrite and _holds_run(folder):
        _empty(folder)
    return folder


def check(folder: Path, overwrite: bool, resume: bool) -> None:
    """Raises ValueError for a folder that `open_run_dir` would refuse; changes nothing."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`run_dir` must be a folder, but there is a file of that name. Received: {folder}")
    children = [child for child in _children(folder) if child.name not in PREVIEW]
    inner = next((child for child in children if _holds_run(child)), None)
    ours = _holds_run(folder)
    if inner and (overwrite or resume and not ours):
        raise ValueError(
            f"`run_dir` must be the folder of one run, and there is another run in it, {inner.name}. Received: {folder}"
        )
    if overwrite and children and not ours:
        raise ValueError(
            "`overwrite` deletes only the folder of a run, and this one has no config.json of a run; delete it "
            f"yourself or name another folder. Received: {folder}"
        )
    if resume and not ours and any(map(_is_foreign, children)):
        raise ValueError(
            "`resume` continues the folder of a run, and this one has other files and no config.json of a run: name "
            f"another folder. Received: {folder}"
        )
    if children and not overwrite and not resume:
        raise ValueError(
            "`run_dir` is not empty; continue it with `resume`, replace it with `overwrite` or name another folder. "
            f"Received: {folder}"
        )


def require(folder: Path) -> None:
    """Raises FileNotFoundError where the folder of a run was deleted while it trains."""
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"The folder of the run was deleted or moved while it was training. Received: {folder}")


def _children(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.name != files.LOCK] if folder.exists() else []


def title(folder: Path) -> str:
    """What to call a run in what is written about it: its folder's name, and the checkpoint's of one made by `at`."""
    folder = folder.resolve()
    return f"{folder.parent.parent.name}, {folder.name}" if folder.parent.name == AT else folder.name


def _is_foreign(child: Path) -> bool:
    """Whether it may be somebody's work: not what file systems, or files half written, leave in a folder."""
    return not child.name.startswith(".") and child.name != "lost+found"


def _new_run_dir(name: str) -> Path:
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}"
    # Two runs may start within a second: mkdir, not a check before it, decides who owns the name.
    for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        folder = Path("runs", stem + suffix)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def _empty(folder: Path) -> None:
    # config.json goes last, so that a deletion cut short leaves a folder that is still known as a run.
    for child in sorted(_children(folder), key=lambda child: child.name == "config.json"):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def complete(folder: Path, before: Path) -> bool:
    """Whether the training in a folder has come to its end, the last epoch or `max_steps`, before a file was written."""
    log = folder / "metrics.csv"
    rows = metrics.read_rows(log) if log.exists() else []
    if not rows or log.stat().st_mtime_ns > before.stat().st_mtime_ns:
        return False
    training, epoch, step = Config.load(folder / "config.json").training, rows[-1]["epoch"], rows[-1]["step"] or 0
    return epoch == training.epochs or bool(training.max_steps and step >= training.max_steps)


def at(folder: Path, which: str) -> Path:
    """Makes a folder, within that of a run, of the run as it was at a checkpoint, and returns it.

    Whatever looks at runs can look at it, and leaves its results there.

    Args:
        folder: Folder of the run.
        which: The checkpoint, as `checkpoints.position_of` takes it.

    Raises:
        ValueError: If the run does not have it.
    """
    position = checkpoints.position_of(folder / "checkpoints", which)
    there = folder / AT / Path(position.file_name).stem
    (there / "checkpoints").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "environment.json"):
        if (folder / name).exists():
            files.write_text(there / name, (folder / name).read_text())
    rows = metrics.read_rows(folder / "metrics.csv") if (folder / "metrics.csv").exists() else []
    if done := [row for row in rows if (row["epoch"] or 0) <= position.epoch]:
        metrics.write_rows(there / "metrics.csv", list(done[0]), done)
    saved = there / "checkpoints" / position.file_name
    temporary = files.temporary_for(saved)
    try:
        temporary.hardlink_to(folder / "checkpoints" / position.file_name)
    except OSError:  # a file system without links
        shutil.copy(folder / "checkpoints" / position.file_name, temporary)
    temporary.replace(saved)  # the run may have gone back to an earlier one, and written it anew
    temporary.unlink(missing_ok=True)  # replacing a file by a link to itself does nothing
    return there


def _holds_run(folder: Path) -> bool:
    """Whether config.json is ours: many other things, such as published models, come with a file of that name."""
    try:
        settings = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {*PLACES, "training"} <= settings.keys()


def environment() -> dict[str, Any]:
    """What a run ran on, as JSON values: versions, devices, source and command line.

    Starts TensorFlow's devices, so call it after they are configured.
    """
    return {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "source": _source(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, list[str]]:
    # Here, not at the top: a run folder can be refused before the slow import.
    import tensorflow as tf

    physical = []
    for device in tf.config.list_physical_devices():
        model = tf.config.experimental.get_device_details(device).get("device_name")
        physical.append(f"{device.name} ({model})" if model else device.name)
    return {"physical": physical, "logical": [device.name for device in tf.config.list_logical_devices()]}


def _source() -> dict[str, str | bool | None]:
    """The commit, and whether files differ from it; both None outside a git repository."""
    commit = _git("rev-parse", "HEAD")
    # An installed copy can lie inside the repository of something else, whose commit would say nothing about it.
    if commit is None or not _git("ls-files", "--", Path(__file__).name):
        return {"commit": None, "dirty": None}
    status = _git("--no-optional-locks", "status", "--porcelain")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _git(*arguments: str) -> str | None:
    """The output of a git command in the folder of this file, None if it fails."""
    # A git hook sets GIT_DIR and the like, which would answer for the repository of the hook.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, env=environ, capture_output=True, text=True,
            timeout=_GIT_TIMEOUT, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
