"""The TFRecord format: where each record of a shard is, and copies of shards that cannot be read from any byte on."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import tensorflow as tf

from simclr_tf.data.manifest import cache_folder
from simclr_tf.files import replacing

HEADER, FOOTER = 12, 4  # bytes before and after a record's data: its length and a checksum of it; the data's checksum

_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda")  # how gzip's and zlib's files begin


def records_of(path: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Where the data of each record of a shard begins, and the data.

    Args:
        path: The shard, not compressed.
        size: Its size in bytes.

    Raises:
        ValueError: If it is damaged.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        at = 0
        while at < size:
            header = file.read(HEADER)
            length, check = struct.unpack("<QI", header) if len(header) == HEADER else (size, 0)
            # The checksum first: a damaged length could be any number.
            if check != _masked(header[:8]) or at + HEADER + length + FOOTER > size:
                raise ValueError(f"Expected TFRecords. Received: {path}, damaged or cut off at byte {at} of {size}")
            data = file.read(length)
            file.read(FOOTER)
            yield at + HEADER, data
            at += HEADER + length + FOOTER


def write(path: str, records: Iterable[bytes]) -> None:
    """Writes a shard.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
    except tf.errors.OpError as error:
        raise OSError(f"Cannot write a shard of TFRecords. Received: {path} ({type(error).__name__})") from error


def stat(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds.

    Raises:
        ValueError: If there is no such shard.
    """
    try:
        found = tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        raise ValueError(f"Expected a shard of TFRecords. Received: {path} ({type(error).__name__})") from error
    return found.length, found.mtime_nsec


def uncompressed(path: str) -> str:
    """The path of a shard that is not compressed: its own, or that of a copy in the user's cache.

    No part of a compressed file can be read without everything that comes before it.

    Raises:
        ValueError: If the shard cannot be read, or is compressed and damaged.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        try:
            header = file.read(HEADER)
        except tf.errors.OpError as error:
            raise ValueError(f"Expected a shard of TFRecords. Received: {path} ({type(error).__name__})") from error
        # The length of a first record may look like the beginning of a compressed file, but not with its checksum.
        if header[:2] not in _COMPRESSED or struct.pack("<I", _masked(header[:8])) == header[8:]:
            return path
        file.seek(0)
        try:
            return cached(path, lambda copy: _unpack(file, copy))
        except zlib.error as error:
            raise ValueError(f"Expected TFRecords. Received: {path}, a damaged compressed file ({error})") from error


def _unpack(file: IO[bytes], copy: IO[bytes]) -> None:
    unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
    while part := file.read(2**20):
        while part:
            if unpack.eof:  # a file may be several, one after the other, and end with zeros
                if not (part := part.lstrip(b"\0")):
                    break
                unpack = zlib.decompressobj(wbits=47)
            copy.write(unpack.decompress(part))
            part = unpack.unused_data
    if not unpack.eof:
        raise zlib.error("cut off")


def cached(path: str, write: Callable[[IO[bytes]], None]) -> str:
    """The path of a copy of a shard in the user's cache, written once for each size and time of change of the shard.

    Args:
        path: The shard.
        write: Function that writes the copy into a binary file.
    """
    known = hashlib.sha256(repr((absolute(path), *stat(path))).encode(errors="surrogateescape")).hexdigest()[:24]
    copy = cache_folder() / "unpacked" / known / os.path.basename(path)  # the name is part of a fingerprint
    if not copy.exists():
        with replacing(copy) as file:
            write(file)
    return str(copy)


def absolute(path: str) -> str:
    """The path from the root on, or the URL."""
    return path if "://" in path else os.path.abspath(path)


def _masked(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()
