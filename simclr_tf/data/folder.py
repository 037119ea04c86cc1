"""A folder of image files, labeled by their folders or unlabeled."""

import functools
import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from simclr_tf.data import check
from simclr_tf.data.source import LOST, Dataset, Images, Split, hold_out

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
TEST_FRACTION = 0.2

# Formats by content, not by name. A short list also keeps Pillow from handing a file to one of its rarer parsers.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_SPLIT_FOLDERS = {"train", "test", "val", "valid", "validation"}
# Fixed: with the run's seed, an evaluation with another seed would test on images that were trained on.
_HOLD_OUT_SEED = 0
_NAMED_AT_MOST = 10
# A small file can claim to be a huge image: 400 MB as RGB, in each of the threads that decode.
MAX_PIXELS = 2**27


class FileImages(Images):
    """Image files, decoded whenever they are read.

    An image is turned upright (EXIF), made RGB, scaled until its shorter side is `image_size`, and cropped to the
    center square. Only the first frame of an animation is read.

    Args:
        paths: The N files.
        image_size: Side of the square images, in pixels.
        root: Folder relative to which the fingerprint names the files.

    Attributes:
        paths: The files.
    """

    def __init__(self, paths: Sequence[str], image_size: int, root: str | Path = "") -> None:
        self.image_shape = image_size, image_size, 3
        self.paths, self._size, self._root = tuple(paths), image_size, root

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def fingerprint(self) -> str:
        """SHA-256 of the files' names."""
        names = (os.path.relpath(path, self._root or None) for path in self.paths)
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()

    def stamp(self) -> str:
        """SHA-256 of the files' names, sizes and times of change, and of the side of the images."""
        found = [(path, *(getattr(os.stat(path), key) for key in ("st_size", "st_mtime_ns"))) for path in self.paths]
        return hashlib.sha256(repr((self._size, found)).encode(errors="surrogateescape")).hexdigest()

    def take(self, indices: np.ndarray) -> "FileImages":
        """The chosen files."""
        return FileImages([self.paths[i] for i in indices], self._size, self._root)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (B,) -> uint8 (B, H, W, 3); an unreadable file is a TensorFlow error with its name."""
        images = tf.numpy_function(self._decode_batch, [indices], tf.uint8)
        return tf.ensure_shape(images, (indices.shape[0], *self.image_shape))

    def _decode_batch(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        paths = [self.paths[index] for index in indices]
        for row, image in enumerate(_decoders().map(lambda path: _decode_named(path, self._size), paths)):
            images[row] = image
        return images


def image_paths(places: Iterable[str | Path]) -> list[str]:
    """The image files that are named, or are in the named folders and those below them, in sorted order.

    Raises:
        ValueError: If a place does not exist, or there is no image file.
    """
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            found += _images_under(Path(place), Path(place), defaultdict(list))
        elif os.path.isfile(place):
            found.append(str(place))
        else:
            raise ValueError(f"Expected image files, or folders of them. Received: {_printable(str(place))}, not there")
    if not found:
        raise ValueError(
            f"Expected files that end in {', '.join(EXTENSIONS)}. Received: none in {', '.join(map(str, places))}"
        )
    return found


def decoded(
    paths: Sequence[str], image_size: int, batch_size: int
) -> Iterator[tuple[list[str], np.ndarray, list[str]]]:
    """Reads image files in batches, each file as `FileImages` does, whatever may be wrong with some of them.

    Args:
        paths: Files.
        image_size: Side of the square images, in pixels.
        batch_size: Files a batch.

    Yields:
        Files that could be read; their images, uint8 (m, image_size, image_size, 3); and a line for each other file.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")

    def read(path: str) -> np.ndarray | str:
        try:
            return _decode(path, image_size)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
            return _printable(f"{path} ({type(error).__name__}: {' '.join(str(error).split())})")

    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        read_ones = list(zip(batch, _decoders().map(read, batch), strict=True))
        images = [image for _, image in read_ones if not isinstance(image, str)]
        stacked = np.stack(images) if images else np.empty((0, image_size, image_size, 3), np.uint8)
        readable = [path for path, image in read_ones if not isinstance(image, str)]
        yield readable, stacked, [fault for _, fault in read_ones if isinstance(fault, str)]


def load_folder(data_dir: str | Path, image_size: int) -> Dataset:
    """Reads a folder of images.

    `data_dir` has either folders of images, one for each class (labeled in the sorted order of their names), or images
    only (unlabeled), or `train/` and `test/` in any case, each of them like that. Without `test/`, a fifth of every
    class is held out as test images, always the same ones.

    Every file is decoded once, so that broken ones are found, left out and named in the notes before a run begins.

    Args:
        data_dir: Folder to read.
        image_size: Side of the square images, in pixels.

    Raises:
        ValueError: If there is no such folder, no readable image, or a test class without training images.
    """
    check("folder", data_dir, image_size)
    # Pillow warns of odd metadata and of very large images, from threads and once for each file.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    root = Path(data_dir)
    splits = _splits(root)
    notes: list[str] = []
    train, names = _read_split(splits.get("train", root), root, image_size, None, notes)
    test = None
    if "test" in splits:
        test, _ = _read_split(splits["test"], root, image_size, names or (), notes)
    elif names is not None and len(train) > 1:
        train, test = hold_out(train, TEST_FRACTION, _HOLD_OUT_SEED)
        notes.append(f"folder: there is no test folder, so {len(test)} images of {root} were held out as test images")
    if splits and (ignored := [folder.name for folder in _folders(root) if folder not in splits.values()]):
        notes.append(f"folder: beside train and test, these folders are not read: {', '.join(ignored)}")
    class_names = None if names is None else tuple(map(_printable, names))
    return Dataset("folder", train, test, class_names, tuple(map(_printable, notes)))


def _splits(root: Path) -> dict[str, Path]:
    """The folders `train` and `test`; none where `train` is a class, as in a data set of vehicles."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    if "train" in folders and (folders.keys() <= _SPLIT_FOLDERS or _folders(folders["train"])):
        return {name: folders[name] for name in ("train", "test") if name in folders}
    return {}


def _read_split(
    root: Path, top: Path, image_size: int, known: tuple[str, ...] | None, notes: list[str]
) -> tuple[Split, tuple[str, ...] | None]:
    """One split and the names of its classes, which must be among `known` unless that is None; adds to `notes`.

    Links that lead out of `top` are not followed.
    """
    left_out: dict[str, list[str]] = defaultdict(list)
    classes = {folder.name: files for folder in _folders(root) if (files := _images_under(folder, top, left_out))}
    loose = _image_files(root, [entry.name for entry in os.scandir(root) if not entry.is_dir()], top, left_out)
    if classes:
        left_out["image{s} in no class folder"] = loose
    for what, files in left_out.items():
        if files:
            count = f"{len(files)} {what.format(s='s' * (len(files) > 1))}"
            notes.append(f"folder: left out {count} in {root}, such as {os.path.relpath(min(files), root)}")
    if known is not None and (strange := sorted(set(classes) - set(known))):
        raise ValueError(
            f"Every class in {str(root)!r} must be a class of the training images, {sorted(known)}. Received: {strange}"
        )
    if not classes:
        if known:
            notes.append(f"folder: the images in {root} are in no class folders, so they have no labels")
        return Split(FileImages(_readable(root, loose, notes), image_size, root)), None
    names = known or tuple(sorted(classes))
    label_of = {path: names.index(name) for name, files in classes.items() for path in files}
    paths = _readable(root, label_of, notes)
    return Split(FileImages(paths, image_size, root), np.array([label_of[p] for p in paths], np.int32)), names


def _folders(root: Path) -> list[Path]:
    """The visible folders in `root`, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_under(root: Path, top: Path, left_out: dict[str, list[str]]) -> list[str]:
    """The visible image files in `root` and the folders below it, sorted; adds to `left_out`, by kind."""
    found: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        left_out["linked folder{s}"] += filter(os.path.islink, (os.path.join(folder, name) for name in below))
        found += _image_files(folder, files, top, left_out)
    return sorted(found)


def _image_files(folder: str | Path, names: Iterable[str], top: Path, left_out: dict[str, list[str]]) -> list[str]:
    """The visible images among the files of a folder in `top`, sorted; adds to `left_out`, by kind."""
    paths = [os.path.join(folder, name) for name in sorted(names) if not name.startswith(".")]
    named = [path for path in paths if path.lower().endswith(EXTENSIONS)]
    images = [path for path in named if os.path.isfile(path)]
    left_out[f"file{{s}} not ending in {', '.join(EXTENSIONS)}"] += set(paths) - set(named)
    left_out["dangling link{s}"] += set(named) - set(images)
    # A folder from elsewhere must not reach what lies beside it.
    inside = os.path.join(os.path.realpath(top), "")
    outside = {path for path in images if os.path.islink(path) and not os.path.realpath(path).startswith(inside)}
    left_out["link{s} out of the folder"] += outside
    return [path for path in images if path not in outside]


def _readable(root: Path, paths: Iterable[str], notes: list[str]) -> list[str]:
    """The files that can be decoded; the others go into `notes`."""
    paths = list(paths)
    faults = dict(zip(paths, _decoders().map(_fault, paths), strict=True))
    broken = [f"{os.path.relpath(path, root)} ({fault})" for path, fault in faults.items() if fault]
    if len(broken) == len(paths):
        problem = "no image" if not paths else f"{len(paths)} unreadable files, such as {broken[0]}"
        raise ValueError(
            f"A folder of images must hold files that end in {', '.join(EXTENSIONS)}. "
            f"Received: {_printable('; '.join([f'{root}, with {problem}', *notes]))}"
        )
    notes += [f"folder: left out an unreadable file in {root}: {line}" for line in broken[:_NAMED_AT_MOST]]
    if len(broken) > _NAMED_AT_MOST:
        notes.append(f"folder: left out {len(broken) - _NAMED_AT_MOST} more unreadable files in {root}")
    return [path for path in paths if not faults[path]]


def _printable(text: str) -> str:
    """Escapes the bytes of file names that the locale cannot decode, since Python refuses to print them."""
    return text.encode(errors="backslashreplace").decode()


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
        raise ValueError(f"{LOST}. Received: {_printable(path)} ({type(error).__name__})") from error


def _decode(path: str, size: int) -> np.ndarray:
    """One file -> uint8 (size, size, 3)."""
    with Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, and at most {MAX_PIXELS} are decoded")
        # A large JPEG is decoded at a fraction of its size, as long as that leaves twice the pixels needed each way.
        image.draft(None, (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 255 instead of scaling
        upright = Image.fromarray((np.asarray(upright) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.BICUBIC))
