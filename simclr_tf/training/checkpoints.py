"""Checkpoints: one NumPy archive each, whole or absent, bit-exact, readable without TensorFlow.

Weights, batch-norm statistics, optimizer slots and its step counter are all Keras variables, so a mapping from
variable paths to arrays is a complete checkpoint. Randomness is a function of seed and step and needs none.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simclr_tf.files import replacing

if TYPE_CHECKING:  # a missing checkpoint is refused before the slow import
    import keras

_NAME = re.compile(r"epoch-(\d{5,})\.npz")
_META = "meta"
KEPT = 2  # checkpoints of a run; should the newest be damaged, there is the one before
# np.savez takes the entries as keywords, some of which mean something else to it; no prefixed path does.
_PREFIX = "variables/"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A saved state."""

    epoch: int  # completed ones
    variables: dict[str, np.ndarray]  # by path
    meta: dict[str, Any]  # what else was saved with them
    path: Path
    skipped: tuple[str, ...]  # a line for each newer file that could not be read


def save(folder: Path, epoch: int, variables: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Writes `folder/epoch-<epoch>.npz`, then deletes the checkpoints that are no longer needed.

    Those are all but the two newest, and those of later epochs: a run that went back to an earlier checkpoint
    has left them behind.

    Args:
        folder: Folder of the checkpoints of one run; created if needed.
        epoch: Completed epochs.
        variables: Arrays of numbers by name, of any shape.
        meta: JSON values to save with them.

    Returns:
        The file.

    Raises:
        ValueError: If `epoch` is negative, or an array's dtype is one that NumPy does not write exactly (bfloat16,
            objects). Nothing is written then.
    """
    if epoch < 0:
        raise ValueError(f"epoch must not be negative. Received: {epoch}")
    arrays = {name: np.asarray(array) for name, array in variables.items()}
    foreign = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind not in "biufc"}
    if foreign:
        raise ValueError(f"A checkpoint holds arrays of numbers or booleans. Received: {foreign}")
    entries: dict[str, Any] = {_PREFIX + name: array for name, array in arrays.items()}
    entries[_META] = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    path = folder / f"epoch-{epoch:05d}.npz"
    with replacing(path) as file:
        np.savez(file, **entries)
    saved = _files(folder)
    kept = [saved[number] for number in saved if number <= epoch][:KEPT]
    for superfluous in {*saved.values(), *folder.glob(".epoch-*.tmp")} - set(kept):
        superfluous.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, None if there is no checkpoint.

    Raises:
        ValueError: If there are checkpoints but all are damaged: only the user can decide to start from scratch.
    """
    skipped: list[str] = []
    for epoch, path in _files(folder).items():
        try:
            variables, meta = _read(path)
        except Exception as error:  # A damaged archive raises nearly anything: zip, NumPy, JSON and memory errors.
            skipped.append(f"skipped a damaged checkpoint: {path} ({type(error).__name__}: {error})")
        else:
            return Checkpoint(epoch, variables, meta, path, tuple(skipped))
    if skipped:
        raise ValueError(f"Every checkpoint of the run is damaged. Received: {'; '.join(skipped)}")
    return None


def require(folder: Path) -> None:
    """Raises ValueError where a folder has no checkpoint, whole or damaged."""
    if not _files(folder):
        raise ValueError(f"The run has no checkpoint yet. Received: {folder.parent}")


def _files(folder: Path) -> dict[int, Path]:
    """Epochs and their files, newest first."""
    matches = [(match, path) for path in folder.glob("epoch-*.npz") if (match := _NAME.fullmatch(path.name))]
    return dict(sorted(((int(match[1]), path) for match, path in matches), reverse=True))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    # Opened here, because np.load leaves a damaged file open. Reading an entry to its end is what checks its CRC, so
    # every array is read now, not on demand.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        meta = json.loads(archive[_META].tobytes())
        variables = {key.removeprefix(_PREFIX): archive[key] for key in archive.files if key != _META}
    return variables, meta


def collect(variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Copies Keras variables, also mirrored ones, to arrays under their paths; raises ValueError if two share one."""
    # Copies: on a CPU the result of numpy() can share memory with the variable, which training goes on to change.
    return {path: np.array(variable.numpy(), copy=True) for path, variable in _by_path(variables).items()}


def restore(variables: Iterable[keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns arrays that `collect` returned to the variables of the same paths: all of them, or none and an error.

    Raises:
        ValueError: If two variables share a path, or paths, shapes or dtypes differ; it names them.
    """
    targets = _by_path(variables)
    faults = [f"missing {path}" for path in targets if path not in arrays]
    faults += [f"unexpected {path}" for path in arrays if path not in targets]
    for path, variable in targets.items():
        if path in arrays and _kind(variable) != _kind(arrays[path]):
            faults.append(f"{path} is {_kind(arrays[path])} instead of {_kind(variable)}")
    if faults:
        raise ValueError(f"The checkpoint does not fit the model and its optimizer. Received: {'; '.join(faults)}")
    for path, variable in targets.items():
        variable.assign(arrays[path])


def _by_path(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    found: dict[str, keras.Variable] = {}
    shared = []
    for variable in variables:
        if variable.path in found:
            shared.append(variable.path)
        found[variable.path] = variable
    if shared:
        raise ValueError(f"Every variable of a checkpoint needs a path of its own. Received twice: {sorted(shared)}")
    return found


def _kind(array: keras.Variable | np.ndarray) -> str:
    """Dtype and shape, such as `float32 (3, 3)`."""
    return f"{np.dtype(array.dtype).name if isinstance(array, np.ndarray) else array.dtype} {tuple(array.shape)}"
