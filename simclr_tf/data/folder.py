"""A folder of image files, labeled by their folders or unlabeled."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from simclr_tf._compat import is_op_determinism_enabled
from simclr_tf.data import check
from simclr_tf.data.manifest import Manifest, cache_file, inspect
from simclr_tf.data.source import (
    NAMED_AT_MOST,
    UNDECODABLE,
    Dataset,
    EncodedImages,
    Split,
    on_cpu,
)
from simclr_tf.data.splits import hold_out_test

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_TEST_FOLDERS = ("test", "val", "valid", "validation")  # the first that is there has the test images


class FileImages(EncodedImages):
    """Image files, decoded whenever they are read.

    An image is turned upright (EXIF), converted to RGB, and resized as described in `decode.whole`. Of an animated GIF,
    the first frame is read.

    Args:
        files: The N files.
        image_size: Side of the square images, in pixels.
        root: Folder relative to which the fingerprint names the files.
        larger: As in `EncodedImages`.

    Attributes:
        paths: The files.
        root: That folder.
    """

    def __init__(self, files: Manifest, image_size: int, root: str | Path = "", larger: bool | None = None) -> None:
        super().__init__(files.shapes, files.orientations, image_size, larger)
        self.paths, self.root, self._files = files.paths, root, files
        here = os.getcwd()  # the workers of a data service have their own
        self._encoded = on_cpu(np.array([os.fsencode(os.path.join(here, path)) for path in self.paths], object))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def fingerprint(self) -> str:
        """SHA-256 of the files' names."""
        names = (os.path.relpath(path, self.root or None) for path in self.paths)
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()

    def stamp(self) -> str:
        """SHA-256 of the files' names, sizes and times of change, and of the side of the images."""
        stats = [(path, os.stat(path)) for path in self.paths]
        found = [(os.path.relpath(path, self.root or None), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        return hashlib.sha256(repr((self.image_shape[0], found)).encode(errors="surrogateescape")).hexdigest()

    def take(self, indices: np.ndarray) -> "FileImages":
        """The chosen files."""
        return FileImages(self._files.take(indices), self.image_shape[0], self.root, self.larger)

    @property
    def decoders(self) -> int | None:
        """All cores, unless there are only deterministic kernels: reading files has side effects, as TensorFlow sees it."""
        return None if is_op_determinism_enabled() else super().decoders

    def fetched(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Rows that begin with an index -> the files' paths and EXIF orientations, and the rows."""
        return rows.map(lambda index, *row: (self._encoded[index], self.orientations[index], index, *row))

    def contents(self, fetched: tf.Tensor) -> tf.Tensor:
        """A path -> the file's bytes."""
        return tf.io.read_file(fetched)

    def name(self, index: int) -> str:
        """The file's path."""
        return printable(self.paths[index])


def image_paths(places: Sequence[str | Path]) -> list[str]:
    """The image files that are named, or are in the named folders and those below them, in sorted order.

    Prints what was left out of the folders.

    Raises:
        ValueError: If a place does not exist, or there is no image file.
    """
    found: list[str] = []
    notes: list[str] = []
    for place in map(str, places):
        if os.path.isdir(place):
            left_out: dict[str, list[str]] = defaultdict(list)
            found += _images_under(Path(place), Path(place), left_out)
            notes += _left_out(left_out, Path(place))
        elif os.path.isfile(place):
            found.append(place)
        else:
            raise ValueError(f"Expected image files, or folders of them. Received: {printable(place)}, not there")
    if not found:
        received = printable("; ".join([f"none in {', '.join(map(str, places))}", *notes]))
        raise ValueError(f"Expected files that end in {', '.join(EXTENSIONS)}. Received: {received}")
    for note in notes:
        print(f"note: {printable(note)}")
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
    for start in range(0, len(paths), batch_size):
        looked_at = inspect(paths[start : start + batch_size])
        faults = dict(looked_at.faults)
        images = FileImages(looked_at.readable(), image_size)
        pixels, read = images.each()
        faults |= {images.paths[index]: UNDECODABLE for index in np.flatnonzero(~read)}
        lines = [printable(f"{path} ({faults[path]})") for path in looked_at.paths if path in faults]
        yield [images.paths[index] for index in np.flatnonzero(read)], pixels[read], lines


def load_folder(data_dir: str | Path, image_size: int) -> Dataset:
    """Reads a folder of images.

    `data_dir` has either folders of images, one for each class (labeled in the sorted order of their names), or images
    only (unlabeled), or `train/` and `test/` in any case, each of them like that; where there is no `test/`, `val/`,
    `valid/` or `validation/` takes its place. Without any, a fifth of every class is held out as test images, always the
    same ones.

    The header and the end of every file are looked at, so that most broken ones are found, left out and named in the
    notes before a run begins.

    Args:
        data_dir: Folder to read.
        image_size: Side of the square images, in pixels.

    Raises:
        ValueError: If there is no such folder, no readable image, or a test class without training images.
    """
    check("folder", data_dir, image_size)
    root = Path(data_dir)
    _require_no_link(root)
    splits = _splits(root)
    notes: list[str] = []
    train, names = _read_split(splits.get("train", root), root, image_size, None, notes)
    test = None
    if "test" in splits:
        test, _ = _read_split(splits["test"], root, image_size, names or (), notes)
        if splits["test"].name.lower() != "test":
            notes.append(f"folder: the test images are those of {splits['test']}")
    elif names is not None and len(train) > 1:
        train, test = hold_out_test(train)
        notes.append(f"folder: there is no test folder, so {len(test)} images of {root} were held out as test images")
    if splits and (ignored := [folder.name for folder in _folders(root) if folder not in splits.values()]):
        notes.append(f"folder: beside train and test, these folders are not read: {', '.join(ignored)}")
    class_names = None if names is None else tuple(map(printable, names))
    return Dataset("folder", train, test, class_names, tuple(map(printable, notes)))


def _require_no_link(root: Path) -> None:
    """Raises ValueError where the folder of training or test images is a link, which would be passed over."""
    with os.scandir(root) as entries:
        folders = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    if "train" in folders:
        for entry in (folders["train"], *[folders[name] for name in _TEST_FOLDERS if name in folders][:1]):
            if entry.is_symlink():
                raise ValueError(
                    f"Links to folders are not followed: name the folder itself. Received: {entry.path}, a link"
                )


def _splits(root: Path) -> dict[str, Path]:
    """The folders of `train` and `test` images; none where `train` is a class, as in a data set of vehicles."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    beside = folders.keys() - {"train"}
    if "train" in folders and (not beside or beside & set(_TEST_FOLDERS) or _folders(folders["train"])):
        tests = [folders[name] for name in _TEST_FOLDERS if name in folders]
        return {"train": folders["train"]} | ({"test": tests[0]} if tests else {})
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
    left_out["linked folder{s}"] += [entry.path for entry in os.scandir(root) if entry.is_symlink() and entry.is_dir()]
    if len(loose) > (filed := sum(map(len, classes.values()))) > 0:
        raise ValueError(
            f"Most images are in no class folder: move the {filed} of the folders elsewhere, or all into class folders. "
            f"Received: {len(loose)} images in {root}, and the folders {', '.join(sorted(classes)[:3])}"
        )
    if classes:
        left_out["image{s} in no class folder"] = loose
    notes += [f"folder: {line}" for line in _left_out(left_out, root)]
    if known is not None and (strange := sorted(set(classes) - set(known))):
        raise ValueError(
            f"Every class in {str(root)!r} must be a class of the training images, {sorted(known)}. Received: {strange}"
        )
    if not classes:
        if known:
            notes.append(f"folder: the images in {root} are in no class folders, so they have no labels")
        return Split(FileImages(_readable(root, loose, notes), image_size, root)), None
    names = known or tuple(sorted(classes))
    label_of = {path: label for label, name in enumerate(names) for path in classes.get(name, ())}
    readable = _readable(root, label_of, notes)
    labels = np.array([label_of[path] for path in readable.paths], np.int32)
    return Split(FileImages(readable, image_size, root), labels), names


def _left_out(files: Mapping[str, Sequence[str]], root: Path) -> list[str]:
    """A line for each kind of file in a folder that is not read."""
    return [
        f"left out {len(paths)} {what.format(s='s' * (len(paths) > 1))} in {root}, "
        f"such as {os.path.relpath(min(paths), root)}"
        for what, paths in files.items()
        if paths
    ]


def _folders(root: Path) -> list[Path]:
    """The visible folders in `root`, by name, without links."""
    folders = (path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in folders if not path.name.startswith("."))


def _images_under(root: Path, top: Path, left_out: dict[str, list[str]]) -> list[str]:
    """The visible image files in `root` and the folders below it, sorted; adds to `left_out`, by kind."""
    found: list[str] = []
    unread = left_out["folder{s} that cannot be read"]
    for folder, below, files in os.walk(root, onerror=lambda error: unread.append(str(error.filename))):
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


def _readable(root: Path, paths: Iterable[str], notes: list[str]) -> Manifest:
    """What is known of the files that can be decoded; the others go into `notes`."""
    files = inspect(list(paths), cache_file(root))
    broken = [f"{os.path.relpath(path, root)} ({fault})" for path, fault in sorted(files.faults.items())]
    if len(broken) == len(files.paths):
        problem = "no image" if not files.paths else f"{len(broken)} unreadable files, such as {broken[0]}"
        raise ValueError(
            f"A folder of images must hold files that end in {', '.join(EXTENSIONS)}. "
            f"Received: {printable('; '.join([f'{root}, with {problem}', *notes]))}"
        )
    notes += [f"folder: left out an unreadable file in {root}: {line}" for line in broken[:NAMED_AT_MOST]]
    if len(broken) > NAMED_AT_MOST:
        notes.append(f"folder: left out {len(broken) - NAMED_AT_MOST} more unreadable files in {root}")
    return files.readable()


def printable(text: str) -> str:
    """Escapes the bytes of file names that the locale cannot decode, since Python refuses to print them."""
    return text.encode(errors="backslashreplace").decode()
