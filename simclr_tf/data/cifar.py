"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

Read into memory from the official binary or Python version, extracted or as the official `.tar.gz`; downloaded where
there is neither.
"""

import contextlib
import hashlib
import http.client
import io
import pickle
import sys
import tarfile
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.request import urlopen

import numpy as np

from simclr_tf.data.source import ArrayImages, Dataset, Split

URL = "https://www.cs.toronto.edu/~kriz/"
CACHE = "~/.cache/simclr_tf"

_PIXELS = 3 * 32 * 32
_Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Version:
    """One published form of a data set: `folder` is what `archive` extracts to."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    names: str
    num_classes: int
    label_key: str  # the field of the labels in the Python version
    label_bytes: int = 0  # bytes before the pixels in the binary version, the last one being the label; 0 for Python

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
# The binary version comes first: it is the one to download.
_VERSIONS = {
    "cifar10": (
        _Version(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            train=tuple(f"{batch}.bin" for batch in _BATCHES),
            test="test_batch.bin",
            names="batches.meta.txt",
            num_classes=10,
            label_key="label",
            label_bytes=1,
        ),
        _Version(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            train=_BATCHES,
            test="test_batch",
            names="batches.meta",
            num_classes=10,
            label_key="label",
        ),
    ),
    "cifar100": (
        _Version(
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            train=("train.bin",),
            test="test.bin",
            names="fine_label_names.txt",
            num_classes=100,
            label_key="fine_label",
            label_bytes=2,
        ),
        _Version(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            train=("train",),
            test="test",
            names="meta",
            num_classes=100,
            label_key="fine_label",
        ),
    ),
}
_SHA256 = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
}
_OFFICIAL_SIZES = {"training": 50_000, "test": 10_000}


def load_cifar(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads CIFAR; fewer images than the official ones are accepted, with a note.

    Args:
        name: 'cifar10', or 'cifar100' with its fine labels.
        data_dir: Folder of the batch files, folder that holds that folder or an official archive, or path of an
            archive. An empty or new folder is downloaded into; None means `~/.cache/simclr_tf`.

    Returns:
        Splits of uint8 (N, 32, 32, 3) images with int32 (N,) labels.

    Raises:
        ValueError: If the name is another one, or files are missing, damaged or of another kind.
        OSError: If the download fails.
    """
    if name not in _VERSIONS:
        raise ValueError(f"The data set must be one of {sorted(_VERSIONS)}. Received: {name!r}")
    version, where = _find(name, data_dir)
    files = _from_folder(where, version) if where.is_dir() else _from_archive(where, version)
    present = [file for file in version.train if file in files]
    if not present or version.test not in files:
        missing = version.test if present else " and ".join(version.train)
        raise ValueError(f"{name} needs its file {missing}. Received: {where}, with {sorted(files)}")
    batches = [_parse(files[file], version, f"{where}/{file}") for file in present]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test_images, test_labels = _parse(files[version.test], version, f"{where}/{version.test}")
    notes = [f"{name}: {where} has no {file}" for file in version.train if file not in files]
    for kind, count in (("training", len(labels)), ("test", len(test_labels))):
        if count != _OFFICIAL_SIZES[kind]:
            notes.append(f"{name}: {count} {kind} images instead of the official {_OFFICIAL_SIZES[kind]}")
    return Dataset(
        name=name,
        train=Split(ArrayImages(images), labels),
        test=Split(ArrayImages(test_images), test_labels),
        class_names=_class_names(files.get(version.names), version, f"{where}/{version.names}"),
        notes=tuple(notes),
    )


# --- Where the files are ---


def _find(name: str, data_dir: str | Path | None) -> tuple[_Version, Path]:
    """The version that is there, and its folder or archive; downloads it where there is none."""
    root = Path(CACHE if data_dir is None else data_dir).expanduser()
    for version in _VERSIONS[name]:
        if root.name == version.archive and root.is_file():
            return version, root
        if any((root / file).is_file() for file in (*version.train, version.test)):
            return version, root
        if (root / version.folder).is_dir():
            return version, root / version.folder
        if (root / version.archive).is_file():
            return version, root / version.archive
    newest = _VERSIONS[name][0]
    if data_dir is not None:
        _require_free(name, root)
    return newest, _download(newest.archive, root)


def _require_free(name: str, root: Path) -> None:
    """Raises ValueError unless `root` is, or can become, a folder with nothing in it but other CIFAR files."""
    ours = {entry for versions in _VERSIONS.values() for v in versions for entry in (v.folder, v.archive)}
    expected = sorted(entry for v in _VERSIONS[name] for entry in (v.folder, v.archive))
    rule = f"`data_dir` must hold {name} as one of {expected}, or be empty to have it downloaded there."
    if root.is_dir():
        foreign = sorted(e.name for e in root.iterdir() if e.name not in ours and not e.name.startswith("."))
        if foreign:
            raise ValueError(f"{rule} Received: {root}, with {', '.join(foreign[:5])}")
    elif root.exists():
        raise ValueError(f"{rule} Received: {root}, which is a file")
    elif not root.absolute().parent.is_dir():
        raise ValueError(f"{rule} Received: {root}, in a folder that does not exist")


def _download(archive: str, folder: Path) -> Path:
    """Fetches an official archive into `folder`, whole and verified or not at all."""
    target = folder / archive
    by_hand = f"Without a network, put {URL}{archive} into {folder} by hand."
    # Hidden, and unlike any other process's: several may start at once, and the last of them to finish wins.
    part = folder / f".{archive}.{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {URL}{archive} to {folder}", file=sys.stderr, flush=True)
        digest = _fetch(URL + archive, part)
        if digest != _SHA256[archive]:
            raise ValueError(f"{URL}{archive} must have the SHA-256 {_SHA256[archive]}. {by_hand} Received: {digest}")
        part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"Cannot download {URL}{archive} to {folder}. {by_hand} Received: {error!r}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return target


def _fetch(url: str, path: Path) -> str:
    """Writes what is at `url` to `path`; returns its SHA-256."""
    digest = hashlib.sha256()
    with urlopen(url, timeout=60) as response, open(path, "xb") as file:
        while chunk := response.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _from_folder(folder: Path, version: _Version) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in version.files if (folder / name).is_file()}


def _from_archive(archive: Path, version: _Version) -> dict[str, bytes]:
    """The files of `version` in an archive; nothing is written to disk."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content and (name := PurePosixPath(member.name).name) in version.files:
                    files[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"Expected a whole .tar.gz archive. Received: {archive} ({error})") from error
    return files


# --- What the files say ---


def _parse(content: bytes, version: _Version, where: str) -> _Arrays:
    """One batch file -> uint8 (N, 32, 32, 3) images and int32 (N,) labels."""
    parse = _parse_binary if version.label_bytes else _parse_pickled
    pixels, labels = parse(content, version, where)
    if not len(labels) or labels.min() < 0 or labels.max() >= version.num_classes:
        found = f"{labels.min()} to {labels.max()}" if len(labels) else "no images"
        raise ValueError(f"Labels must be from 0 to {version.num_classes - 1}. Received: {where}, with {found}")
    planes = pixels.reshape(-1, 3, 32, 32)  # red, green and blue, each row by row
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.int32)


def _parse_binary(content: bytes, version: _Version, where: str) -> _Arrays:
    size = version.label_bytes + _PIXELS
    if len(content) % size:
        raise ValueError(
            f"The size of a batch file must be a multiple of {size} bytes. Received: {where}, of {len(content)} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, version.label_bytes :], records[:, version.label_bytes - 1]


def _parse_pickled(content: bytes, version: _Version, where: str) -> _Arrays:
    fields = _unpickle(content, where)
    data, labels = fields.get("data"), fields.get(f"{version.label_key}s")
    pixels = data.array if isinstance(data, _PickledArray) else None
    if pixels is None or not isinstance(labels, list) or pixels.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"A batch file must hold data of shape (N, {_PIXELS}) and N {version.label_key}s. "
            f"Received: {where}, with {sorted(fields)}"
        )
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(f"Labels must be integers. Received: {where}, with others")
    return pixels, np.array(labels)


def _class_names(content: bytes | None, version: _Version, where: str) -> tuple[str, ...]:
    """The names of the classes, or their numbers where the file of the names is missing."""
    if content is None:
        return tuple(str(label) for label in range(version.num_classes))
    lines: Any = content.split()
    if not version.label_bytes:
        lines = _unpickle(content, where).get(f"{version.label_key}_names")
    if not isinstance(lines, list) or len(lines) != version.num_classes:
        raise ValueError(f"Expected the names of {version.num_classes} classes. Received: {where}")
    return tuple(line.decode() if isinstance(line, bytes) else str(line) for line in lines)


# --- Pickles. These stand in for everything that a CIFAR file refers to, so that nothing else is ever called. ---


class _PickledArray:
    """A NumPy array of bytes, from its pickled state."""

    array: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        """Takes the arguments of NumPy's `_reconstruct`, which say nothing."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, content = state
        if not isinstance(dtype, _PickledDtype):
            raise pickle.UnpicklingError("an array without a dtype")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_major else "C")


class _PickledDtype:
    """The dtype uint8."""

    def __init__(self, name: Any, *_: object) -> None:
        """Refuses every other dtype."""
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of dtype {name}")

    def __setstate__(self, state: Any) -> None:
        """Takes the byte order and the like, which say nothing for single bytes."""


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Knows arrays of bytes and plain containers; refuses to look anything else up."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in from the table above."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return _STAND_INS[module, name]


def _unpickle(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dictionary, its keys as text."""
    try:
        # Python 2 wrote them, and its strings are bytes.
        fields = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in fields.items()}
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise ValueError(f"Expected a file of CIFAR's Python version. Received: {where} ({error})") from error
