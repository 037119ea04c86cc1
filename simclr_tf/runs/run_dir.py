"""The folder of a run: opened without harm to what is there, written without half-written files."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy", "tensorboard")

_GIT_TIMEOUT = 5.0  # seconds; a repository on a slow network drive must not hold up a run


def open_run_dir(path: str | None, name: str, overwrite: bool, resume: bool) -> Path:
    """Creates the folder of a run, or opens an existing one where that was asked for.

    Args:
        path: The folder, or None for a new `runs/<YYYYmmdd-HHMMSS>-<name>`.
        name: What the run is, as part of the default folder's name.
        overwrite: Empty the folder if it holds a run.
        resume: Leave what the folder holds as it is.

    Returns:
        The folder, which exists.

    Raises:
        ValueError: If `path` is a file; if it holds anything and neither `overwrite` nor `resume` is set; if it
            should be overwritten but does not look like a run; or if both are set.
    """
    if path is None:
        return _new_run_dir(name)
    if overwrite and resume:
        raise ValueError("--resume and --overwrite exclude each other. Received: both")
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--run_dir must be a folder, but there is a file of that name. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _empty(folder)
    elif not resume and any(folder.iterdir()):
        raise ValueError(
            "--run_dir is not empty; continue it with --resume, replace it with --overwrite or name another folder. "
            f"Received: {folder}"
        )
    return folder


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
    children = list(folder.iterdir())
    if children and not _holds_run(folder):
        raise ValueError(
            "--overwrite deletes only the folder of a run, and this one has no config.json of a run; delete it "
            f"yourself or name another folder. Received: {folder}"
        )
    # config.json goes last, so that a deletion cut short leaves a folder that is still known as a run.
    for child in sorted(children, key=lambda child: child.name == "config.json"):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def _holds_run(folder: Path) -> bool:
    """Whether config.json is ours: many other things, such as published models, come with a file of that name."""
    try:
        settings = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and {"objective", "training"} <= settings.keys()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` at the end of the block: readers see the old file or the new, never a part.

    Args:
        path: The file to write; its folder is created. An exception in the block leaves the old file as it was.

    Yields:
        The file to write to, a temporary `.<name>.<process id>.tmp` in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            # Without it a power cut can leave the new name on a file whose bytes never reached the disk.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as indented JSON, atomically.

    Raises:
        ValueError: If it holds a number that JSON has no word for, such as NaN.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def environment() -> dict[str, Any]:
    """What a run ran on: versions, devices, source and command line.

    Starts TensorFlow's devices, so call it after they are configured.

    Returns:
        JSON-ready values: `started` (ISO time with time zone), `command` (argv), `python`, `platform`, `packages`
        (name to version, None where it is not installed), `devices` (`physical` and `logical` names), and `source`
        (`commit`, and `dirty`: whether files differ from it; both None outside a git repository).
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
            ["git", *arguments],
            cwd=Path(__file__).parent,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
