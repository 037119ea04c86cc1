"""TFRecord shards of encoded images, each record of which can be read at any time.

The shards are read through once, to find out where each record is, its label and its size, and the result is kept in
the user's cache. From then on they can be read like a folder: any order, any share, exact resume. Images are numbered
in the order of their file names, where the records have these, so the order of an epoch does not depend on how they are
divided into shards.
"""

import contextlib
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from simclr_tf.data.manifest import VERSION, cache_folder, look
from simclr_tf.data.source import (
    CORES,
    NAMED_AT_MOST,
    Dataset,
    EncodedImages,
    Split,
    in_parallel,
    on_cpu,
)
from simclr_tf.data.splits import hold_out_test
from simclr_tf.data.tfrecord import FOOTER, HEADER, absolute, records_of, stat, uncompressed
from simclr_tf.files import replacing
from simclr_tf.progress import progress

REMOTE = 64  # records that are read at a time from remote storage, where latency is the limit, not the processor

_COLUMNS = ("shards", "starts", "lengths", "labels", "shapes", "orientations", "files")


@dataclass(frozen=True)
class Keys:
    """The names of a record's features: by default, those in which ImageNet is usually kept."""

    image: str = "image/encoded"
    label: str | None = "image/class/label"
    text: str | None = "image/class/text"
    file: str | None = "image/filename"


@dataclass(frozen=True, eq=False)
class Index:
    """Where the N images of some shards are, and what they are.

    Args:
        paths: The shards.
        names: Name of each label that has one.
        faults: What is wrong with the records that were left out, one line each.
        shards: The shard of each record, int32 (N,).
        starts: Byte of the shard at which the record's data begins, int64 (N,).
        lengths: Length of the record's data in bytes, int64 (N,).
        labels: Label of the record as stored, int64 (N,); -1 where it has none.
        shapes: Height and width of its image as it is to be seen, int32 (N, 2).
        orientations: EXIF orientation of its image, int32 (N,).
        files: Sort key of each image, made from the name of its file, bytes (N,); empty where it has none.
    """

    paths: tuple[str, ...]
    names: dict[int, str]
    faults: tuple[str, ...]
    shards: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    shapes: np.ndarray
    orientations: np.ndarray
    files: np.ndarray

    def take(self, indices: np.ndarray) -> "Index":
        """The chosen records."""
        columns = [getattr(self, name)[indices] for name in _COLUMNS]
        return Index(self.paths, self.names, self.faults, *columns)


class RecordImages(EncodedImages):
    """Images in TFRecord shards, decoded whenever they are read.

    Args:
        index: Where the N images are.
        image_size: Side of the square images, in pixels.
        keys: Names of the features.
        larger: As in `EncodedImages`.
    """

    def __init__(self, index: Index, image_size: int, keys: Keys, larger: bool | None = None) -> None:
        super().__init__(index.shapes, index.orientations, image_size, larger)
        self._index, self._keys = index, keys
        here = os.getcwd()  # the workers of a data service have their own
        paths = [path if "://" in path else os.path.join(here, path) for path in index.paths]
        self._paths = on_cpu(np.array([os.fsencode(path) for path in paths], object))
        self._columns = tuple(map(on_cpu, (index.shards, index.starts, index.lengths)))
        self._at_a_time = REMOTE if any("://" in path for path in index.paths) else CORES

    def __len__(self) -> int:
        """The number of images."""
        return len(self._index.shards)

    def fingerprint(self) -> str:
        """SHA-256 of the shards' names, and of where the records are in them."""
        index = self._index
        digest = hashlib.sha256("\0".join(map(os.path.basename, index.paths)).encode(errors="surrogateescape"))
        for column in (index.shards, index.starts, index.lengths):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def stamp(self) -> str:
        """SHA-256 of the fingerprint, of the shards' sizes and times of change, and of the side of the images."""
        stats = [stat(path) for path in self._index.paths]
        return hashlib.sha256(repr((self.fingerprint(), stats, self.image_shape[0])).encode()).hexdigest()

    def take(self, indices: np.ndarray) -> "RecordImages":
        """The chosen images."""
        return RecordImages(self._index.take(indices), self.image_shape[0], self._keys, self.larger)

    def fetched(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Rows that begin with an index -> the records and EXIF orientations, and the rows."""

        def read(at: tf.Tensor, *row: tf.Tensor) -> tf.data.Dataset:
            shard, start, length = (column[at] for column in self._columns)
            # The only operation in a graph that can read a file from any byte on; it verifies the checksum, too.
            records = tf.raw_ops.TFRecordDatasetV2(
                filenames=[self._paths[shard]], compression_type="", buffer_size=HEADER + length + FOOTER,
                byte_offsets=[start - HEADER], metadata="",
            )  # fmt: skip
            record = tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string)).take(1)
            return record.map(lambda data: (data, self.orientations[at], at, *row))

        return in_parallel(rows, read, self._at_a_time)

    def contents(self, fetched: tf.Tensor) -> tf.Tensor:
        """A record -> the encoded image in it."""
        feature = {self._keys.image: tf.io.FixedLenFeature([], tf.string)}
        return tf.io.parse_single_example(fetched, feature)[self._keys.image]

    def name(self, index: int) -> str:
        """The shard, and the byte at which the record begins in it."""
        at = int(self._index.starts[index]) - HEADER
        return f"{self._index.paths[self._index.shards[index]]} at byte {at}"


def load_records(name: str, image_size: int) -> Dataset:
    """Reads the shards that a pattern names.

    If some files are called `train...`, they hold the training images, and those called `test...`, or else
    `val...`, hold the test images. The stored labels, which often begin with 1, are renumbered from 0 in the same
    order. Without test images, a fifth of every class is held out.

    Args:
        name: "records:" and a pattern of files, such as "records:/data/imagenet/*".
        image_size: Side of the square images, in pixels.

    Raises:
        ValueError: If there are no such files, one of them is damaged, or a test class has no training images.
    """
    pattern = os.path.expanduser(name.partition(":")[2])  # which the shell does in words that begin with ~ only
    try:
        paths = sorted(path for path in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(path))
    except tf.errors.OpError as error:
        raise ValueError(f"Expected a pattern of files. Received: {pattern} ({error.message})") from error
    # What lies beside the shards: what `convert` knows of them, and what people write about them.
    paths = [path for path in paths if not path.endswith((".json", ".md", ".txt", ".csv"))]
    if not paths:
        raise ValueError(f"Expected a pattern of TFRecord files. Received: {pattern}, which matches none")
    kinds = {kind: [p for p in paths if re.match(kind, os.path.basename(p), re.I)] for kind in ("train", "test", "val")}
    train = kinds["train"] or paths
    tests = [kinds[kind] for kind in ("test", "val") if kinds["train"] and kinds[kind]]
    unread = len(paths) - len(train) - sum(map(len, tests))
    notes = [f"records: {unread} of {len(paths)} files are neither for training nor for testing"] if unread else []
    return dataset_of("records", train, tests, image_size, Keys(), None, notes + _incomplete(paths))


def _incomplete(paths: Sequence[str]) -> list[str]:
    """A note for each set of shards of which some are missing, by names like train-00000-of-00010."""
    matches = [re.match(r"(.*?)-\d+-of-(\d+)", os.path.basename(path)) for path in paths]
    return [
        f"records: of the {int(count)} shards {name}-*-of-{count}, only {there} are there"
        for (name, count), there in Counter((match[1], match[2]) for match in matches if match).items()
        if there < int(count)
    ]


def dataset_of(
    name: str, train: Sequence[str], tests: Sequence[Sequence[str]], image_size: int, keys: Keys,
    class_names: Sequence[str] | None, notes: Sequence[str] = (),
) -> Dataset:  # fmt: skip
    """The data set of some shards.

    Args:
        name: Name of the data set.
        train: Shards to learn from.
        tests: Shards to judge on: the first of these that have labels, if the training images do. If there are none, a
            fifth of the labeled training images is held out.
        image_size: Side of the square images, in pixels.
        keys: Names of the features.
        class_names: Name of each label as stored; None takes the names and numbers that the records have.
        notes: Notes of the caller.

    Raises:
        ValueError: If a shard is damaged, there are no images, or a test class has no training images.
    """
    notes, held = list(notes), None
    learned = _index(train, keys, notes, name)
    stored = np.unique(learned.labels)
    labeled = bool(stored[0] >= 0)
    if not labeled and stored[-1] >= 0:
        notes.append(f"{name}: some records have no label, so none is used")
    classes = np.arange(len(class_names)) if class_names else stored
    images = RecordImages(learned, image_size, keys)
    split = Split(images, np.searchsorted(classes, learned.labels).astype(np.int32) if labeled else None)
    for shards in tests:
        judged = _index(shards, keys, notes, name)
        if labeled and (judged.labels < 0).all():
            notes.append(f"{name}: {len(judged.labels)} test images have no labels, such as those in {shards[0]}")
            continue
        if labeled and (strange := np.setdiff1d(judged.labels, classes)).size:
            raise ValueError(f"Every test label must be one of the training images. Received: {strange.tolist()}")
        labels = np.searchsorted(classes, judged.labels).astype(np.int32) if labeled else None
        held = Split(RecordImages(judged, image_size, keys, images.larger), labels)
        break
    if held is None and labeled and len(split) > 1:
        split, held = hold_out_test(split)
        notes.append(f"{name}: there are no test records, so {len(held)} images were held out as test images")
    texts = class_names or [learned.names.get(label, str(label)) for label in classes.tolist()]
    return Dataset(name, split, held, tuple(texts) if labeled else None, tuple(notes))


def _index(paths: Sequence[str], keys: Keys, notes: list[str], name: str) -> Index:
    """Where the images of shards are; adds to `notes` what was left out."""
    index = find(paths, keys)
    notes += [f"{name}: left out an unreadable image: {fault}" for fault in index.faults[:NAMED_AT_MOST]]
    if len(index.faults) > NAMED_AT_MOST:
        notes.append(f"{name}: left out {len(index.faults) - NAMED_AT_MOST} more unreadable images")
    if not len(index.shards):
        problem = f"; {index.faults[0]}" if index.faults else ""
        raise ValueError(f"Expected records with {keys.image!r}. Received: none in {', '.join(paths[:3])}{problem}")
    return index


def find(paths: Sequence[str], keys: Keys) -> Index:
    """Where the images of shards are, from the user's cache where the shards are as they were.

    Raises:
        ValueError: If a shard is damaged.
    """
    paths = [uncompressed(path) for path in paths]
    with ThreadPoolExecutor(CORES) as threads:
        parts = list(progress(threads.map(lambda path: _shard(path, keys), paths), "reading records", len(paths)))
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS[1:]]
    shards = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.starts) for part in parts])
    names = {label: text for part in parts for label, text in part.names.items()}
    faults = tuple(fault for part in parts for fault in part.faults)
    index = Index(tuple(paths), names, faults, shards, *columns)
    return index.take(np.argsort(index.files, kind="stable"))


def _shard(path: str, keys: Keys) -> Index:
    """The index of one shard."""
    size, changed = stat(path)
    known = hashlib.sha256(repr((VERSION, absolute(path), size, changed, keys)).encode(errors="surrogateescape"))
    cache = cache_folder() / "records" / f"{known.hexdigest()[:24]}.npz"
    with contextlib.suppress(Exception), open(cache, "rb") as file, np.load(file, allow_pickle=False) as kept:
        columns = [kept[name] for name in _COLUMNS]
        names = dict(zip(kept["numbers"].tolist(), kept["texts"].tolist(), strict=True))
        return Index((path,), names, tuple(kept["faults"].tolist()), *columns)
    index = _read_through(path, size, keys)
    with contextlib.suppress(OSError), replacing(cache) as new:  # without it, the next start takes as long
        np.savez(
            new, **{name: getattr(index, name) for name in _COLUMNS}, numbers=np.array(list(index.names), np.int64),
            texts=np.array(list(index.names.values()), np.str_), faults=np.array(index.faults, np.str_),
        )  # fmt: skip
    return index


def _read_through(path: str, size: int, keys: Keys) -> Index:
    rows: list[tuple[int, ...]] = []
    files: list[bytes] = []
    names: dict[int, str] = {}
    faults: list[str] = []
    for start, data in records_of(path, size):
        try:
            features = tf.train.Example.FromString(data).features.feature
        except Exception:  # protobuf's own error has no public name
            raise ValueError(f"Expected TFRecords of tf.train.Example. Received: {path}, byte {start}") from None
        images = features[keys.image].bytes_list.value
        found = look(io.BytesIO(images[0])) if len(images) == 1 else f"no image in {keys.image!r}"
        if isinstance(found, str):
            faults.append(f"{path} at byte {start - HEADER} ({found})")
            continue
        labels = features[keys.label].int64_list.value if keys.label else []
        label = int(labels[0]) if len(labels) == 1 else -1
        texts = features[keys.text].bytes_list.value if keys.text and label >= 0 else []
        if texts:
            names.setdefault(label, texts[0].decode(errors="backslashreplace"))
        rows.append((start, len(data), label, *found))
        file = (features[keys.file].bytes_list.value or [b""])[0] if keys.file else b""
        # So that a class sorts before classes whose names begin with its own, as in a folder.
        files.append(file.replace(b"/", b"\1", 1))
    table = np.array(rows, np.int64).reshape(-1, 6)
    starts, lengths, labels, heights, widths, orientations = table.T.copy()
    shapes = np.stack([heights, widths], axis=1).astype(np.int32)
    shards = np.zeros(len(table), np.int32)
    return Index(
        (path,), names, tuple(faults), shards, starts, lengths, labels, shapes,
        orientations.astype(np.int32), np.array(files, np.bytes_),
    )  # fmt: skip
