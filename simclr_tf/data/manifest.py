"""What is known of image files without decoding them: their sizes, which way up they are, and which are damaged.

Headers are read once and kept in the user's cache, so that a folder of a million files is ready as soon as their names,
sizes and times have been listed. A file that changed is looked at again.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image, ImageFile

from simclr_tf.files import replacing
from simclr_tf.progress import progress

# Formats by content, not by name. A short list also keeps Pillow from handing a file to one of its rarer parsers.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
# A small file can claim to be a huge image: 400 MB as RGB, in each of the threads that decode.
MAX_PIXELS = 2**27

_ORIENTATION = 0x112  # EXIF's tag
_TURNED = 5  # orientations from here on exchange rows and columns
_TAIL = 64  # bytes at the end of a file in which its end is marked
_AT_A_TIME = 500  # files

WORTH_KEEPING = 1000  # files; the headers of fewer are read in no time

VERSION = 3  # of what is cached: it counts the changes of what `look` finds
_KEYS = ("bytes", "times", "shapes", "orientations")


@dataclass(frozen=True, eq=False)
class Manifest:
    """What the headers of N image files say.

    Args:
        paths: The files.
        shapes: Height and width of each image as it is to be seen, int32 (N, 2); zeros where the file is damaged.
        orientations: EXIF orientation of each image, int32 (N,).
        faults: What is wrong with each damaged file, by its path.
    """

    paths: tuple[str, ...]
    shapes: np.ndarray
    orientations: np.ndarray
    faults: dict[str, str]

    def take(self, indices: np.ndarray) -> "Manifest":
        """The chosen files."""
        paths = tuple(self.paths[index] for index in indices)
        return Manifest(paths, self.shapes[indices], self.orientations[indices], self.faults)

    def readable(self) -> "Manifest":
        """The files that are not damaged."""
        return self.take(np.flatnonzero([path not in self.faults for path in self.paths])) if self.faults else self


def inspect(paths: Sequence[str], cache: Path | None = None) -> Manifest:
    """Looks at the header and the end of each file that the cache does not know as it is.

    A file whose end does not look like one is decoded, to see whether it is damaged.

    Args:
        paths: Files.
        cache: File to keep what was found in, if there are many files; it is no error if it cannot be read or written.
    """
    cache = cache if len(paths) >= WORTH_KEEPING else None
    warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata and very large images, once for each file
    sizes, times = np.array([_stat(path) for path in paths], np.int64).reshape(-1, 2).T.copy()
    shapes, orientations = np.zeros((len(paths), 2), np.int32), np.ones(len(paths), np.int32)
    faults: dict[str, str] = {}
    unknown = np.ones(len(paths), bool)
    if cache and (kept := _load(cache)):
        place, columns, reasons = kept
        at = np.array([place.get(path, -1) for path in paths], np.int64)
        same = (at >= 0) & (columns["bytes"][at] == sizes) & (columns["times"][at] == times)
        shapes[same], orientations[same] = columns["shapes"][at[same]], columns["orientations"][at[same]]
        faults = {path: reasons[path] for path, known in zip(paths, same, strict=True) if known and path in reasons}
        unknown = ~same
    todo = np.flatnonzero(unknown)
    parts = [todo[start : start + _AT_A_TIME] for start in range(0, len(todo), _AT_A_TIME)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = threads.map(lambda part: [look(paths[index]) for index in part], parts)
        for part, answers in zip(parts, progress(found, "reading headers", len(parts)), strict=True):
            for index, answer in zip(part, answers, strict=True):
                if isinstance(answer, str):
                    faults[paths[index]] = answer
                    if isinstance(answer, ForNow):
                        times[index] = -1  # so that the cache does not know the file
                else:
                    *shapes[index], orientations[index] = answer
    if cache and len(todo):
        _save(cache, paths, dict(zip(_KEYS, (sizes, times, shapes, orientations), strict=True)), faults)
    return Manifest(tuple(paths), shapes, orientations, faults)


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simclr_tf"


def cache_file(folder: Path) -> Path:
    """Where the manifest of a folder is kept, for this user."""
    return cache_folder() / "manifests" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.npz"


class ForNow(str):
    """What keeps a file from being read, without being in the file, such as missing permissions."""


def look(place: str | IO[bytes]) -> tuple[int, int, int] | str:
    """Height, width and EXIF orientation of an image file, given by path or open, or what is wrong with it."""
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(place, "rb")) if isinstance(place, str) else place
            image = stack.enter_context(Image.open(file, formats=FORMATS))
            width, height = image.size
            if width * height > MAX_PIXELS:
                return f"{width} x {height} pixels, and at most {MAX_PIXELS} are decoded"
            if unread := _unread(image, file):
                return f"{unread}, which TensorFlow does not read: save it as PNG"
            orientation = _orientation(image)
            if not _complete(file, image.format or ""):
                image.load()
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
        kind = ForNow if isinstance(error, OSError) and error.errno is not None else str
        return kind(" ".join(f"{type(error).__name__}: {error}".split()))
    return (width, height, orientation) if orientation >= _TURNED else (height, width, orientation)


def _unread(image: ImageFile.ImageFile, file: IO[bytes]) -> str:
    """What makes an image one that TensorFlow's decoders refuse, misread or crash on; empty if nothing does."""
    if image.format == "BMP":
        codec, _, offset, args = cast(tuple[str, Any, int, tuple[str, int, int]], image.tile[0])
        plain = codec == "raw" and args[0] in ("L", "BGR", "BGRX", "BGRA") and args[1] >= image.width  # bytes a row
        if not plain:
            return "a BMP file with a palette, of 16 bits, compressed or with its colors in another order"
        if file.seek(0, os.SEEK_END) > offset + args[1] * image.height:
            return "a BMP file with data after its pixels"
    elif image.format == "GIF" and image.tile[0][1] != (0, 0, *image.size):
        return "a GIF file whose first frame is a part of it"
    elif image.format == "WEBP" and getattr(image, "is_animated", False):
        return "an animated WebP file"  # on which TensorFlow 2.21 writes beyond its memory
    return ""


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read, which says nothing of the pixels."""
    # Of a PNG file without EXIF data before its pixels, Pillow would decode these to look for it behind them.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's parsers raise nearly anything
        return 1
    return found if found in range(1, 9) else 1


def _complete(file: IO[bytes], kind: str) -> bool:
    """Whether a file ends as its format says that it should."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if kind in ("BMP", "WEBP"):  # they begin with their length, the latter's without the first eight bytes
        file.seek(2 if kind == "BMP" else 4)
        return int.from_bytes(file.read(4), "little") + 8 * (kind == "WEBP") <= size
    if kind == "GIF":
        return tail.rstrip(b"\0").endswith(b";")
    return (b"\xff\xd9" if kind in ("JPEG", "MPO") else b"IEND") in tail  # MPO: JPEGs of some phones


def _stat(path: str) -> tuple[int, int]:
    """Size in bytes, and time of change in nanoseconds; of a file that is gone, -1."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _load(cache: Path) -> tuple[dict[str, int], dict[str, np.ndarray], dict[str, str]] | None:
    """Place of each path, the columns, and the faults; None if there is no such file or it is damaged."""
    try:
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if int(kept["version"]) != VERSION:
                return None
            paths, reasons = _split(kept["paths"]), _split(kept["faults"])
            columns = {key: kept[key] for key in _KEYS}
    except Exception:  # NumPy and zipfile raise nearly anything on damaged files
        return None
    if any(len(column) != len(paths) for column in columns.values()) or len(reasons) % 2:
        return None
    return {path: at for at, path in enumerate(paths)}, columns, dict(zip(reasons[::2], reasons[1::2], strict=True))


def _save(cache: Path, paths: Sequence[str], columns: dict[str, np.ndarray], faults: dict[str, str]) -> None:
    reasons = [text for pair in faults.items() for text in pair]
    with contextlib.suppress(OSError), replacing(cache) as file:  # a cache: without it, the next start takes longer
        arrays: dict[str, Any] = {"version": VERSION, "paths": _join(paths), "faults": _join(reasons), **columns}
        np.savez(file, **arrays)


def _join(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\0".join(texts).encode(errors="surrogateescape"), np.uint8)


def _split(joined: np.ndarray) -> list[str]:
    return joined.tobytes().decode(errors="surrogateescape").split("\0") if len(joined) else []
