"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

Read into memory from the official binary or Python version, extracted or as the official `.tar.gz`; downloaded where
there is neither.
"""

import hashlib
import http.client
import io
import os
import pickle
import shutil
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np

from simclr_tf.data.manifest import cache_folder
from simclr_tf.data.source import ArrayImages, Dataset, Split

URL = "https://www.cs.toronto.edu/~kriz/"

_PIXELS = 3 * 32 * 32
_LARGEST = 2**28  # bytes of a file in an archive, which may unpack to anything; CIFAR's largest has 155 MB
_Arrays = tuple[np.ndarray, np.ndarray]


class _Version(NamedTuple):
    """One published form of a data set."""

    folder: str  # what `archive` extracts to
    archive: str
    names: str  # the file with the names of the classes
    batches: tuple[str, ...]  # the files with the images, the last one being the test images
    num_classes: int
    label: int | str  # binary: bytes before the pixels, the last one being the label; Python: how fields begin


_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_BINARY_BATCHES = tuple(f"{batch}.bin" for batch in _BATCHES)
# The binary version comes first: it is the one to download.
_VERSIONS = {
    "cifar10": (
        _Version("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "batches.meta.txt", _BINARY_BATCHES, 10, 1),
        _Version("cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta", _BATCHES, 10, "label"),
    ),
    "cifar100": (
        _Version(
            "cifar-100-binary", "cifar-100-binary.tar.gz", "fine_label_names.txt", ("train.bin", "test.bin"), 100, 2
        ),
        _Version("cifar-100-python", "cifar-100-python.tar.gz", "meta", ("train", "test"), 100, "fine_label"),
    ),
}
_SHA256 = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
}


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
    files = _contents(where, version)
    *train, test = version.batches
    present = [file for file in train if file in files]
    if not present or test not in files:
        missing = test if present else " and ".join(train)
        raise ValueError(f"{name} needs its file {missing}. Received: {where}, with {sorted(files)}")
    *parts, (test_images, test_labels) = (_parse(files[file], version, f"{where}/{file}") for file in (*present, test))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    notes = [f"{name}: {where} has no {file}" for file in train if file not in files]
    for kind, count, official in (("training", len(labels), 50_000), ("test", len(test_labels), 10_000)):
        if count != official:
            notes.append(f"{name}: {count} {kind} images instead of the official {official}")
    class_names = _class_names(files.get(version.names), version, f"{where}/{version.names}")
    train_split, test_split = Split(ArrayImages(images), labels), Split(ArrayImages(test_images), test_labels)
    return Dataset(name, train_split, test_split, class_names, tuple(notes))


# --- Where the files are ---


def _find(name: str, data_dir: str | Path | None) -> tuple[_Version, Path]:
    """The version that is there, and its folder or archive; downloads it where there is none."""
    root = cache_folder() if data_dir is None else Path(os.path.expanduser(data_dir))
    for version in _VERSIONS[name]:
        if root.name == version.archive and root.is_file():
            return version, root
        if any((root / file).is_file() for file in version.batches):
            return version, root
        if (root / version.folder).is_dir():
            return version, root / version.folder
        if (root / version.archive).is_file():
            return version, root / version.archive
    if data_dir is not None:
        _require_free(name, root)
    version = _VERSIONS[name][0]
    return version, _download(version.archive, root)


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
    url, target = URL + archive, folder / archive
    by_hand = f"Without a network, put {url} into {folder} by hand."
    try:
        print(f"Downloading {url} to {folder}", file=sys.stderr, flush=True)
        with urlopen(url, timeout=60) as response:
            folder.mkdir(parents=True, exist_ok=True)  # only now: without a network, no folder is left
            # Hidden, and unlike any other process's: several may start at once, and the last of them to finish wins.
            with tempfile.TemporaryDirectory(prefix=f".{archive}.", dir=folder, ignore_cleanup_errors=True) as own:
                part = Path(own, archive)
                with part.open("w+b") as file:
                    shutil.copyfileobj(response, file)
                    file.seek(0)
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != _SHA256[archive]:
                    raise ValueError(f"{url} must have the SHA-256 {_SHA256[archive]}. {by_hand} Received: {digest}")
                part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"Cannot download {url} to {folder}. {by_hand} Received: {error!r}") from error
    return target


def _contents(where: Path, version: _Version) -> dict[str, bytes]:
    """The files of `version` in a folder or an archive, which is read without being extracted."""
    wanted = (*version.batches, version.names)
    if where.is_dir():
        return {name: (where / name).read_bytes() for name in wanted if (where / name).is_file()}
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(where, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content and (name := PurePosixPath(member.name).name) in wanted:
                    if member.size > _LARGEST:
                        raise tarfile.TarError(f"{member.name} of {member.size} bytes")
                    files[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"Expected a whole .tar.gz archive. Received: {where} ({error})") from error
    return files


# --- What the files say ---


def _parse(content: bytes, version: _Version, where: str) -> _Arrays:
    """One batch file -> uint8 (N, 32, 32, 3) images and int32 (N,) labels."""
    if isinstance(version.label, int):
        pixels, labels = _parse_binary(content, version.label, where)
    else:
        pixels, labels = _parse_pickled(content, version.label, where)
    if not len(labels) or labels.min() < 0 or labels.max() >= version.num_classes:
        found = f"{labels.min()} to {labels.max()}" if len(labels) else "no images"
        raise ValueError(f"Labels must be from 0 to {version.num_classes - 1}. Received: {where}, with {found}")
    planes = pixels.reshape(-1, 3, 32, 32)  # red, green and blue, each row by row
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.int32)


def _parse_binary(content: bytes, label_bytes: int, where: str) -> _Arrays:
    size = label_bytes + _PIXELS
    if len(content) % size:
        raise ValueError(
            f"The size of a batch file must be a multiple of {size} bytes. Received: {where}, of {len(content)} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1]


def _parse_pickled(content: bytes, field: str, where: str) -> _Arrays:
    fields = _unpickle(content, where)
    pixels, labels = fields.get("data"), fields.get(f"{field}s")
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list) or pixels.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"A batch file must hold data of shape (N, {_PIXELS}) and N {field}s. Received: {where}, with {sorted(fields)}"
        )
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(f"Labels must be integers. Received: {where}, with others")
    return pixels, np.array(labels)


def _class_names(content: bytes | None, version: _Version, where: str) -> tuple[str, ...]:
    """The names of the classes, or their numbers where the file of the names is missing."""
    if content is None:
        return tuple(str(label) for label in range(version.num_classes))
    if isinstance(version.label, int):  # the binary version
        names: Any = [line.strip() for line in content.splitlines() if line.strip()]
    else:
        names = _unpickle(content, where).get(f"{version.label}_names")
    if not isinstance(names, list) or len(names) != version.num_classes:
        raise ValueError(f"Expected the names of {version.num_classes} classes. Received: {where}")
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


# --- Pickles. Everything that a CIFAR file refers to has a stand-in here, so that nothing else is ever called. ---


class _NumPy:
    """Stands in for an array and for its dtype: keeps what they would be made of."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, if it is one of bytes."""
        _, shape, dtype, column_major, content = self.state
        if dtype.arguments[0] not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of dtype {dtype.arguments[0]}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_major else "C")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _NumPy,
    ("numpy._core.multiarray", "_reconstruct"): _NumPy,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _NumPy,
    ("_codecs", "encode"): str.encode,  # how Python 3 pickles bytes for Python 2
}


class _Unpickler(pickle._Unpickler):
    """Knows arrays of bytes and plain containers; refuses to look anything else up.

    It is the one in Python: that in C reserves memory for whatever number of objects a file announces, gigabytes for a
    hundred bytes.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return _STAND_INS[module, name]


def _unpickle(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dictionary, its keys as text and its arrays as NumPy's."""
    try:
        # Python 2 wrote them, and its strings are bytes.
        fields = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {
            key.decode() if isinstance(key, bytes) else str(key): value.array() if isinstance(value, _NumPy) else value
            for key, value in fields.items()
        }
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise ValueError(f"Expected a file of CIFAR's Python version. Received: {where} ({error})") from error
