"""A folder of image files, labelled by their folders or unlabelled."""

import functools
import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from simclr_tf.data.source import LOST, Dataset, Split, hold_out

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
TEST_FRACTION = 0.2

# By content, not by name. A short list also keeps Pillow from handing a file to one of its rarer parsers.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_SPLIT_FOLDERS = {"train", "test", "val", "valid", "validation"}
# Fixed: were it the run's seed, an evaluation with another seed would test on images that were trained on.
_HOLD_OUT_SEED = 0
_NAMED_AT_MOST = 10


class FileImages:
    """Image files, decoded whenever they are read.

    An image is turned upright (EXIF), made RGB, scaled until its shorter side is `image_size`, and cropped to the
    centre square. Of an animation it is the first frame.

    Args:
        paths: The N files.
        image_size: Side of the square images, in pixels.
        root: Folder that the fingerprint names the files relative to.
    """

    random_access = True
    original_size = None

    def __init__(self, paths: Sequence[str], image_size: int, root: str | Path = "") -> None:
        """Keeps the paths only."""
        self._paths = tuple(paths)
        self._size = image_size
        self._root = root

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self._size, self._size, 3

    def __len__(self) -> int:
        """The number of images."""
        return len(self._paths)

    def fingerprint(self) -> str:
        """SHA-256 of the files' names."""
        names = (os.path.relpath(path, self._root or None) for path in self._paths)
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()

    def take(self, indices: np.ndarray) -> "FileImages":
        """The chosen files."""
        return FileImages([self._paths[i] for i in indices], self._size, self._root)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (B,) -> uint8 (B, H, W, 3); an unreadable file is a TensorFlow error with its name."""
        images = tf.numpy_function(self._decode_batch, [indices], tf.uint8)
        return tf.ensure_shape(images, (indices.shape[0], *self.image_shape))

    def _decode_batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.image_shape), np.uint8)

        def decode_into(row: int) -> None:
            images[row] = _decode_named(self._paths[indices[row]], self._size)

        for _ in _decoders().map(decode_into, range(len(indices))):
            pass  # A failed one raises here.
        return images


def load_folder(data_dir: str | Path, image_size: int) -> Dataset:
    """Reads a folder of images.

    `data_dir` has either folders of images, one for each class (labelled in the sorted order of their names), or images
    only (unlabelled), or `train/` and `test/`, each of them like that. Without `test/`, a fifth of every class is
    held out as test images, always the same ones.

    Every file is decoded once, so that broken ones are found, left out and named in the notes before a run begins.

    Args:
        data_dir: the folder.
        image_size: side of the square images, in pixels.

    Raises:
        ValueError: when there is no such folder, no readable image, or a test class without training images.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise ValueError(f"data_dir must be a folder of images. Received: {str(data_dir)!r}, which is no folder")
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel. Received: {image_size}")
    # Pillow warns of odd metadata and of very large images, from threads and once for each file.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    split_root = _has_splits(root)
    notes: list[str] = []
    train, names = _read_split(root / "train" if split_root else root, image_size, None, notes)
    test = None
    if split_root and (root / "test").is_dir():
        test, _ = _read_split(root / "test", image_size, names or (), notes)
    elif names is not None and len(train) > 1:
        train, test = hold_out(train, TEST_FRACTION, _HOLD_OUT_SEED)
        notes.append(f"folder: there is no test folder, so {len(test)} images of {root} were held out as test images")
    if split_root and (ignored := sorted({d.name for d in _folders(root)} - {"train", "test"})):
        notes.append(f"folder: beside train and test, these folders are not read: {', '.join(ignored)}")
    return Dataset("folder", train, test, names, tuple(notes))


def _has_splits(root: Path) -> bool:
    """Whether `train` is a split and not the class of a data set of vehicles."""
    folders = {folder.name for folder in _folders(root)}
    return "train" in folders and (folders <= _SPLIT_FOLDERS or bool(_folders(root / "train")))


def _read_split(
    root: Path, image_size: int, known: tuple[str, ...] | None, notes: list[str]
) -> tuple[Split, tuple[str, ...] | None]:
    """One split and the names of its classes, which must be among `known` unless that is None; adds to `notes`."""
    classes = {folder.name: _images_under(folder) for folder in _folders(root)}
    classes = {name: files for name, files in classes.items() if files}
    loose = _image_files(root, os.listdir(root))
    if known is not None and (strange := sorted(set(classes) - set(known))):
        raise ValueError(
            f"Every class in {root} must be a class of the training images, {sorted(known)}. Received: {strange}"
        )
    if not classes:
        if known:
            notes.append(f"folder: the images in {root} are in no class folders, so they have no labels")
        return Split(FileImages(_readable(root, loose, notes), image_size, root)), None
    if loose:
        notes.append(f"folder: {len(loose)} images in {root} are in no class folder and were left out")
    names = known or tuple(sorted(classes))
    label_of = {path: names.index(name) for name, files in classes.items() for path in files}
    paths = _readable(root, label_of, notes)
    return Split(FileImages(paths, image_size, root), np.array([label_of[p] for p in paths], np.int32)), names


def _folders(root: Path) -> list[Path]:
    """The visible folders in `root`, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_under(root: Path) -> list[str]:
    """The visible image files in `root` and the folders below it, sorted."""
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        found += _image_files(folder, files)
    return sorted(found)


def _image_files(folder: str | Path, names: Iterable[str]) -> list[str]:
    wanted = (name for name in names if not name.startswith(".") and name.lower().endswith(EXTENSIONS))
    return sorted(path for path in (os.path.join(folder, name) for name in wanted) if os.path.isfile(path))


def _readable(root: Path, paths: Iterable[str], notes: list[str]) -> list[str]:
    """The files that can be decoded; the others go into `notes`."""
    paths = list(paths)
    faults = dict(zip(paths, _decoders().map(_fault, paths), strict=True))
    broken = [f"{os.path.relpath(path, root)} ({fault})" for path, fault in faults.items() if fault]
    if len(broken) == len(paths):
        problem = "no image" if not paths else f"{len(paths)} unreadable files, such as {broken[0]}"
        raise ValueError(
            f"A folder of images must hold files that end in {', '.join(EXTENSIONS)}. Received: {root}, with {problem}"
        )
    notes += [f"folder: left out an unreadable file in {root}: {line}" for line in broken[:_NAMED_AT_MOST]]
    if len(broken) > _NAMED_AT_MOST:
        notes.append(f"folder: left out {len(broken) - _NAMED_AT_MOST} more unreadable files in {root}")
    return [path for path in paths if not faults[path]]


@functools.cache
def _decoders() -> ThreadPoolExecutor:
    """Threads for Pillow, which lets go of the interpreter lock while it decodes and resizes."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")


def _fault(path: str) -> str | None:
    """What is wrong with an image file, or None; every byte is read, at the lowest resolution there is."""
    try:
        _decode(path, 1)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _decode_named(path: str, size: int) -> np.ndarray:
    try:
        return _decode(path, size)
    except Exception as error:
        raise ValueError(f"{LOST}. Received: {path} ({type(error).__name__})") from error


def _decode(path: str, size: int) -> np.ndarray:
    """One file -> uint8 (size, size, 3)."""
    with Image.open(path, formats=_FORMATS) as image:
        # A large JPEG is decoded at a fraction of its size, as long as that leaves twice the pixels needed each way.
        image.draft(None, (2 * size, 2 * size))
        upright = _rgb(ImageOps.exif_transpose(image))
    return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
