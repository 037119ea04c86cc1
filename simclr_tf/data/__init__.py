"""Reading images: one reader a file, all of which return a `simclr_tf.data.dataset.Dataset`.

The readers are imported when they are used, so that the names in `DATASETS` can be listed without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simclr_tf.data.dataset import Dataset

Loader = Callable[[str, "str | Path | None", "int | None", int], "Dataset"]


def load(name: str, data_dir: str | Path | None = None, image_size: int | None = None, seed: int = 0) -> Dataset:
    """Reads a data set by name.

    Args:
        name: one of `DATASETS`.
        data_dir: where the files are. Needed for `folder`; None downloads CIFAR; `patterns` takes none.
        image_size: side of the images in pixels. Needed for `folder`; None for the data set's own size.
        seed: what `patterns` are generated from.

    Raises:
        ValueError: for an unknown name, or settings or files that do not go with it.
        OSError: when the data has to be downloaded and cannot be.
    """
    if name not in DATASETS:
        raise ValueError(f"The data set must be one of {sorted(DATASETS)}. Received: {name!r}")
    return DATASETS[name](name, data_dir, image_size, seed)


def _cifar(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.cifar import load_cifar

    _require_native_size(name, image_size)
    return load_cifar(name, data_dir)


def _folder(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.folder import load_folder

    if not data_dir:
        raise ValueError(f"{name} needs data_dir, the folder with the images. Received: {data_dir!r}")
    if image_size is None:
        raise ValueError(f"{name} needs image_size, the side in pixels to resize to. Received: None")
    return load_folder(data_dir, image_size)


def _patterns(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.patterns import load_patterns

    if data_dir:
        raise ValueError(f"{name} are generated and read no data_dir. Received: {str(data_dir)!r}")
    _require_native_size(name, image_size)
    return load_patterns(seed=seed)


def _require_native_size(name: str, image_size: int | None) -> None:
    if image_size not in (None, 32):
        raise ValueError(
            f"{name} has images of 32 x 32 pixels, and only a folder's are resized: leave image_size out. "
            f"Received: {image_size}"
        )


DATASETS: dict[str, Loader] = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
    "patterns": _patterns,
}
