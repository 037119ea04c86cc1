"""The encoder of a row of the ledger in a small file, and the run folder made of it again.

    python -m benchmarks.kept_encoder --row=docs/results/cifar10/cpu150-seed0 --run_dir=runs/check

One of 4 MB or more is stored in 8 bits: its kernels as integers with one scale an output channel, everything else in
float32. The ledger judges an encoder as it is kept, so that its numbers are those of the file that anyone has. One that
takes 4 MB or more even so is not kept.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from simclr_tf import files
from simclr_tf.training import checkpoints, metrics

LARGEST_FILE = 4_000_000  # bytes
_NAME = "encoder.npz"
_LARGEST = 127
_INTEGERS, _SCALES, _EXACT = "int8/", "scale/", "float32/"


def keep(row: Path, position: checkpoints.Position, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bool:
    """Writes an encoder's arrays, by the variables' paths, into the folder of a row: a checkpoint, or 8 bits.

    Returns:
        False if it is too large for either, and was not written.
    """
    if sum(array.nbytes for array in arrays.values()) < LARGEST_FILE:
        checkpoints.save(row / "checkpoints", position, arrays, meta)
        return True
    pack(row / _NAME, arrays)
    if (row / _NAME).stat().st_size < LARGEST_FILE:
        return True
    (row / _NAME).unlink()
    return False


def make_run(row: Path, run_dir: Path) -> None:
    """Makes a run folder, which `evaluate.py` judges, of what the ledger keeps of a run."""
    with files.replacing_folder(run_dir) as temporary:
        temporary.mkdir(parents=True)
        for name in ("config.json", "metrics.csv"):
            shutil.copy(row / name, temporary)
        if (row / "checkpoints").exists():
            shutil.copytree(row / "checkpoints", temporary / "checkpoints")
        else:
            position = checkpoints.Position(metrics.read_rows(row / "metrics.csv")[-1]["epoch"])
            meta = {"image_shape": [32, 32, 3]}  # CIFAR-10's
            checkpoints.save(temporary / "checkpoints", position, unpack(row / _NAME), meta)


def rounded(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -127 to 127, and the scale of each output channel: their product is the kernel."""
    channels = kernel.ndim - (2 if kernel.shape[-1] == 1 else 1)  # of a depthwise kernel, the axis before the last
    largest = np.max(np.abs(kernel), axis=tuple(axis for axis in range(kernel.ndim) if axis != channels), keepdims=True)
    scale = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(kernel / scale).astype(np.int8), scale


def pack(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an encoder's arrays, float32 by the variables' paths; those of two axes or more are rounded."""
    entries: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim > 1:
            entries[_INTEGERS + name], entries[_SCALES + name] = rounded(array)
        else:
            entries[_EXACT + name] = array
    with files.replacing(path) as file:
        np.savez(file, **entries)  # type: ignore[arg-type]


def unpack(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `pack` wrote, in float32."""
    with np.load(path, allow_pickle=False) as archive:
        entries = {name: archive[name] for name in archive.files}
    arrays = {name.removeprefix(_EXACT): array for name, array in entries.items() if name.startswith(_EXACT)}
    for name in (entry.removeprefix(_SCALES) for entry in entries if entry.startswith(_SCALES)):
        arrays[name] = entries[_INTEGERS + name] * entries[_SCALES + name]
    return arrays


def main() -> None:
    """Makes the run folder of a row."""
    args = harness.arguments(__doc__, sys.argv[1:], shows=False, row="", run_dir="")
    if not (Path(args.row) / "metrics.csv").exists() or not args.run_dir or Path(args.run_dir).exists():
        sys.exit(
            "kept_encoder: error: expected --row, a folder of the ledger, and --run_dir, a folder that is not there yet"
        )
    if not any((Path(args.row) / name).exists() for name in (_NAME, "checkpoints")):
        sys.exit(f"kept_encoder: error: the encoder of this row was too large to be kept. Received: --row={args.row}")
    make_run(Path(args.row), Path(args.run_dir))
    print(args.run_dir)


if __name__ == "__main__":
    main()
