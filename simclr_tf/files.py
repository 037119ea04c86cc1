"""Files and folders that are written whole or not at all: a reader sees the old one or the new one, never a part."""

import contextlib
import csv
import fcntl
import io
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

LOCK = ".lock"  # the file in a folder that belongs to a process
_HELD: dict[Path, int] = {}  # the locks of this process


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` at the end of the block; an exception in it leaves the old file as it was.

    Until then it is `.<name>.<host>.<process id>.tmp` in the same folder, which is created. An OSError names `path`.
    """
    temporary = temporary_for(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                # Without it a power cut can leave the new name on a file whose bytes never reached the disk.
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The path of a folder to create, which becomes `folder` at the end of the block, in place of the old one."""
    temporary = temporary_for(folder)
    old = temporary.with_suffix(".old")
    with _naming(folder):
        try:
            yield temporary
            with alone_in(folder.parent):  # os.replace fails on a folder that is not empty
                if folder.exists():
                    os.replace(folder, old)
                try:
                    os.replace(temporary, folder)
                except BaseException:
                    if old.exists():
                        os.replace(old, folder)
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in this block for the same folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def claim(folder: Path) -> bool:
    """Claims a folder, created if needed, until it is released or this process ends; False if another has claimed it."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() in _HELD and (folder / LOCK).exists():
        return True
    file = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    except OSError:
        pass  # a file system without locks
    _HELD[folder.resolve()] = file
    return True


def release(folder: Path) -> None:
    """Gives a folder back that this process has claimed, if it has."""
    if (file := _HELD.pop(folder.resolve(), None)) is not None:
        os.close(file)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8; what UTF-8 cannot encode, such as a file name of other bytes, is escaped."""
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_csv(path: Path, header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table with its header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON; raises ValueError for a number that JSON cannot express, such as NaN."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def temporary_for(path: Path) -> Path:
    """A path beside another one for what will take its place, its own for each process."""
    # The host, because the containers of a cluster may have the same process ids, and write into one shared folder.
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the path to an error of the operating system that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
