"""Reading images: one reader per file, each of which returns a `simclr_tf.data.source.Dataset`.

The readers are imported when they are used, so that the names in `DATASETS` can be listed without TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclr_tf.data.source import Dataset

Loader = Callable[[str, Any, Any, int], "Dataset"]  # name, data_dir, image_size, seed


def load(name: str, data_dir: str | Path | None = None, image_size: int | None = None, seed: int = 0) -> Dataset:
    """Reads a data set by name.

    Args:
        name: One of `DATASETS`; those in `NAMED` are followed by a colon and what `NAMED` asks for, as in "tfds:mnist".
        data_dir: Folder of the files. Needed for `folder`; None downloads CIFAR; `patterns` and `records` take none.
        image_size: Side of the images in pixels. Needed for a `resizable` data set; otherwise None, for their own size.
        seed: Seed that `patterns` is generated from.

    Raises:
        ValueError: If the name is unknown, or settings or files do not fit it.
        OSError: If the data has to be downloaded and cannot be.
    """
    check(name, data_dir, image_size)
    return DATASETS[name.partition(":")[0]](name, data_dir, image_size, seed)


def check(
    name: str, data_dir: str | Path | None = None, image_size: int | None = None,
    setting: str = "dataset", place: str = "data_dir",
) -> None:  # fmt: skip
    """Raises ValueError for arguments that `load` would refuse, without reading any image.

    `setting` and `place` are what the user calls the name and the folder.
    """
    kind, _, rest = name.partition(":")
    if kind not in DATASETS or bool(rest) != (kind in NAMED):
        known = sorted((set(DATASETS) - set(NAMED)) | {f"{kind}:{what}" for kind, what in NAMED.items()})
        raise ValueError(f"The data set must be one of {known}. Received: {name!r}")
    if kind == "folder" and not data_dir:
        raise ValueError(f"`{setting}=folder` needs `{place}`, the folder with the images. Received: {data_dir!r}")
    if kind == "records" and data_dir:
        raise ValueError(f"`{setting}={name}` says where its files are. Received: `{place}={data_dir}`")
    if resizable(name) and (image_size is None or image_size < 1):
        raise ValueError(
            f"`{setting}={name}` needs `image_size`, the side in pixels to resize to. Received: {image_size}"
        )
    if kind == "folder":
        if not Path(str(data_dir)).is_dir():
            raise ValueError(f"`{place}` must be a folder of images. Received: {str(data_dir)!r}, which is no folder")
    elif not resizable(name) and image_size not in (None, 32):
        raise ValueError(
            f"`{setting}={name}` has images of 32 x 32 pixels, which are not resized: leave `image_size` out. "
            f"Received: {image_size}"
        )
    elif name == "patterns" and data_dir:
        raise ValueError(f"`{setting}=patterns` is generated and reads no `{place}`. Received: {str(data_dir)!r}")
    elif data_dir and "://" not in str(data_dir) and not Path(os.path.expanduser(data_dir)).absolute().parent.is_dir():
        raise ValueError(
            f"`{place}` must be a folder or an archive, or a new folder to download into. "
            f"Received: {str(data_dir)!r}, in a folder that does not exist"
        )


def size_for(name: str, image_size: int | None) -> int | None:
    """The side to ask of a data set, in pixels: None where its images have a size of their own."""
    return image_size if resizable(name) else None


def resizable(name: str) -> bool:
    """Whether a data set has images of any size, and so needs an `image_size`."""
    return name.partition(":")[0] in ("folder", *NAMED)


def _cifar(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.cifar import load_cifar

    return load_cifar(name, data_dir)


def _folder(name: str, data_dir: str | Path, image_size: int, seed: int) -> Dataset:
    from simclr_tf.data.folder import load_folder

    return load_folder(data_dir, image_size)


def _patterns(name: str, data_dir: str | Path | None, image_size: int | None, seed: int) -> Dataset:
    from simclr_tf.data.patterns import load_patterns

    return load_patterns(seed=seed)


def _records(name: str, data_dir: str | Path | None, image_size: int, seed: int) -> Dataset:
    from simclr_tf.data.records import load_records

    return load_records(name, image_size)


def _tfds(name: str, data_dir: str | Path | None, image_size: int, seed: int) -> Dataset:
    from simclr_tf.data.tensorflow_datasets import load_tfds

    return load_tfds(name, str(data_dir) if data_dir else None, image_size)


DATASETS: dict[str, Loader] = {
    "cifar10": _cifar, "cifar100": _cifar, "folder": _folder, "patterns": _patterns, "records": _records, "tfds": _tfds,
}  # fmt: skip
NAMED = {"records": "GLOB", "tfds": "NAME"}  # what follows the name and a colon
