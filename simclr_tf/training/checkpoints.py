"""Checkpoints: one NumPy archive each, whole or absent, bit-exact, readable without TensorFlow.

Weights, batch-norm statistics, optimizer slots and its step counter are all Keras variables, so a mapping from
variable paths to arrays is a complete checkpoint. Randomness is a function of seed and step, so it has no state to save.

`epoch-00012.npz` is the state after 12 epochs, `epoch-00012-step-00034.npz` that after 34 steps of the next one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from simclr_tf.files import replacing

if TYPE_CHECKING:  # a missing checkpoint is refused before the slow import
    import keras

_NAME = re.compile(r"epoch-(\d{5,})(?:-step-(\d{5,}))?\.npz")
_META, _MANIFEST = "meta", "manifest"  # JSON: what else was saved, and the SHA-256 of every other entry
KEPT = 2  # checkpoints of a run; should the newest be damaged, there is the one before
# np.savez takes the entries as keywords, some of which mean something else to it; no prefixed path does.
_PREFIX = "variables/"


class Position(NamedTuple):
    """How far a run is: completed epochs, and steps done in the next one."""

    epoch: int
    step: int = 0

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps since the beginning of the run."""
        return self.epoch * steps_per_epoch + self.step

    @property
    def file_name(self) -> str:
        """The name of the checkpoint of this position."""
        return f"epoch-{self.epoch:05d}" + (f"-step-{self.step:05d}" if self.step else "") + ".npz"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A saved state."""

    position: Position
    variables: dict[str, np.ndarray]  # by path
    meta: dict[str, Any]  # what else was saved with them
    path: Path
    skipped: tuple[str, ...]  # a line for each newer file that could not be read

    @property
    def epoch(self) -> int:
        """Completed epochs."""
        return self.position.epoch


def save(
    folder: Path, position: Position, variables: Mapping[str, np.ndarray], meta: Mapping[str, Any],
    kept: int = KEPT, best: int | None = None,
) -> Path:  # fmt: skip
    """Writes a checkpoint, then deletes those that are no longer needed.

    Those are all but the newest and the best, and those of later positions: a run that went back to an earlier
    checkpoint has left them behind.

    Args:
        folder: Folder of the checkpoints of one run; created if needed.
        position: How far the run is.
        variables: Arrays of numbers by name, of any shape.
        meta: JSON values to save with them.
        kept: Number of the newest to keep, this one among them.
        best: Epochs after which the best one was saved; it is kept, however old it is.

    Returns:
        The file.

    Raises:
        ValueError: If a position is negative, or an array's dtype is one that NumPy does not write exactly (bfloat16,
            objects). Nothing is written then.
    """
    if min(position) < 0:
        raise ValueError(f"A position must not be negative. Received: {position}")
    arrays = {name: np.asarray(array) for name, array in variables.items()}
    foreign = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind not in "biufc"}
    if foreign:
        raise ValueError(f"A checkpoint holds arrays of numbers or booleans. Received: {foreign}")
    entries: dict[str, np.ndarray] = {_PREFIX + name: array for name, array in arrays.items()}
    entries[_META] = _json(dict(meta))
    entries[_MANIFEST] = _json({name: _digest(array) for name, array in entries.items()})
    path = folder / position.file_name
    with replacing(path) as file:
        np.savez(file, **entries)  # type: ignore[arg-type]
    saved = listed(folder)
    needed = {*[each for each in saved if each <= position][:kept], *([] if best is None else [Position(best)])}
    for superfluous in [*(saved[each] for each in saved if each not in needed), *folder.glob(".epoch-*.tmp")]:
        superfluous.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, None if there is no checkpoint.

    Raises:
        ValueError: If there are checkpoints but all are damaged: only the user can decide to start from scratch.
    """
    skipped: list[str] = []
    for position, path in listed(folder).items():
        try:
            variables, meta = _read(path)
        except Exception as error:  # A damaged archive raises nearly anything: zip, NumPy, JSON and memory errors.
            skipped.append(f"skipped a damaged checkpoint: {path} ({type(error).__name__}: {error})")
        else:
            return Checkpoint(position, variables, meta, path, tuple(skipped))
    if skipped:
        raise ValueError(f"Every checkpoint of the run is damaged. Received: {'; '.join(skipped)}")
    return None


def require(folder: Path) -> None:
    """Raises ValueError where a folder has no checkpoint, whole or damaged."""
    if not listed(folder):
        raise ValueError(f"The run has no checkpoint yet. Received: {folder.parent}")


def loaded(folder: Path) -> Checkpoint:
    """The newest checkpoint that is whole; raises ValueError where there is none."""
    require(folder)
    return cast(Checkpoint, newest(folder))


def position_of(folder: Path, which: str) -> Position:
    """The position of a checkpoint: `best`, or a number of epochs; raises ValueError if it is not there."""
    saved = loaded(folder) if which == "best" else None
    if saved and not saved.meta.get("best"):
        raise ValueError(
            "The best checkpoint is that of the lowest validation loss, and the run has saved none with one: "
            f"`validation_fraction` of a run holds images out for it. Received: `checkpoint=best`, {folder.parent}"
        )
    position = Position(saved.meta["best"][1] if saved else int(which))
    if position not in (there := listed(folder)):
        epochs = ", ".join(str(each.epoch) for each in reversed(there) if not each.step) or "none"
        raise ValueError(
            f"`checkpoint` must be one that the run has kept, after so many epochs: {epochs} (`keep_checkpoints` of a run "
            f"says how many to keep). Received: `checkpoint={which}`"
        )
    return position


def listed(folder: Path) -> dict[Position, Path]:
    """Positions and their files, newest first."""
    matches = [(match, path) for path in folder.glob("epoch-*.npz") if (match := _NAME.fullmatch(path.name))]
    found = [(Position(int(match[1]), int(match[2] or 0)), path) for match, path in matches]
    return dict(sorted(found, reverse=True))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    # Opened here, because np.load leaves a damaged file open.
    with path.open("rb") as file, zipfile.ZipFile(file) as members:
        # Stored as they are, they cannot unpack to more than the file's size.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError("compressed entries, which no checkpoint has")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            entries = {key: archive[key] for key in archive.files}
    if _MANIFEST not in entries:
        raise ValueError("no manifest; versions before 0.2 wrote none")
    manifest = json.loads(entries.pop(_MANIFEST).tobytes())
    if manifest.keys() != entries.keys() or _META not in entries:
        raise ValueError("other entries than the manifest lists")
    wrong = [key for key, array in entries.items() if _digest(array) != manifest[key]]
    if wrong:
        raise ValueError(f"the digest of {wrong[0]} is another one")
    meta = json.loads(entries.pop(_META).tobytes())
    return {key.removeprefix(_PREFIX): array for key, array in entries.items()}, meta


def _json(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _digest(array: np.ndarray) -> str:
    """SHA-256 of dtype, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


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
