"""Reading images: one reader per file, each of which returns a `simclr_tf.data.source.Dataset`.

The readers are imported when they are used, so that the names in `DATASETS` can be listed without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclr_tf.data.source import Dataset

Loader = Callable[[str, Any, Any, int], "Dataset"]  # name, data_dir, image_size, seed


def load(name: str, data_dir: str | Path | None = None, image_size: int | None = None, seed: int = 0) -> Dataset:
    """Reads a data set by name.

    Args:
        name: One of `DATASETS`.
        data_dir: Folder of the files. Needed for `folder`; None downloads CIFAR; `patterns` takes none.
        image_size: Side of the images in pixels. Needed for `folder`; None for the data set's own size.
        seed: Seed that `patterns` is generated from.

    Raises:
        ValueError: If the name is unknown, or settings or files do not fit it.
        OSError: If the data has to be downloaded and cannot be.
    """
    check(name, data_dir, image_size)
    return DATASETS[name](name, data_dir, image_size, seed)


def check(name: str, data_dir: str | Path | None = None, image_size: int | None = None) -> None:
    """Raises ValueError for arguments that `load` would refuse, without reading any image."""
    if name not in DATASETS:
        raise ValueError(f"The data set must be one of {sorted(DATASETS)}. Received: {name!r}")
    if name == "folder":
        if not data_dir:
            raise ValueError(f"`dataset=folder` needs `data_dir`, the folder with the images. Received: {data_dir!r}")
        if image_size is None or image_size < 1:
            raise ValueError(
                f"`dataset=folder` needs `image_size`, the side in pixels to resize to. Received: {image_size}"
            )
        if not Path(data_dir).is_dir():
            raise ValueError(f"`data_dir` must be a folder of images. Received: {str(data_dir)!r}, which is no folder")
    elif image_size not in (None, 32):
        raise ValueError(
            f"`dataset={name}` has images of 32 x 32 pixels, and only a folder's are resized: leave `image_size` out. "
            f"Received: {image_size}"
        )
    elif name == "patterns" and data_dir:
        raise ValueError(f"`dataset=patterns` is generated and reads no `data_dir`. Received: {str(data_dir)!r}")
    elif data_dir and not Path(data_dir).expanduser().absolute().parent.is_dir():
        raise ValueError(
            "`data_dir` must be a folder or an archive, or a new folder to download into. "
            f"Received: {str(data_dir)!r}, in a folder that does not exist"
        )


def _cifar(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.cifar import load_cifar

    return load_cifar(name, data_dir)


def _folder(name: str, data_dir: str | Path, image_size: int, seed: int) -> Dataset:
    from simclr_tf.data.folder import load_folder

    return load_folder(data_dir, image_size)


def _patterns(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.patterns import load_patterns

    return load_patterns(seed=seed)


DATASETS: dict[str, Loader] = {"cifar10": _cifar, "cifar100": _cifar, "folder": _folder, "patterns": _patterns}
