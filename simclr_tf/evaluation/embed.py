"""Representations of image files, or of a data set, for other programs."""

import contextlib
import itertools
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from simclr_tf import encoders, files
from simclr_tf.config import Config, Embed
from simclr_tf.data.folder import image_paths, printable
from simclr_tf.data.source import Dataset
from simclr_tf.evaluation.features import extract_batches, extract_files
from simclr_tf.evaluation.probing import open_data
from simclr_tf.places import data_source, results_folder

Words = dict[str, list[str]]  # from a column to what it says of each image
Write = Callable[[Words, np.ndarray], None]  # and the images' features


def run(run_dir: Path, config: Config, settings: Embed) -> Path:
    """Writes the representation of each image, and prints and returns the path of the result.

    For image files, it has the columns `file`, `h` (float32) and `folder`, whose name is the label in a folder of classes;
    for a data set, `split`, `label` (the name of the class, empty without one) and `h`. In .npz these are arrays, in
    .parquet columns; beside them, or in the metadata of the schema, are `layer` and `encoder_digest`.

    Raises:
        ValueError: If there is no image, or more than `max_bad_files` are unreadable.
    """
    if settings.out and (place := Path(settings.out)).exists() and not place.is_file():
        raise ValueError(
            f"`out` must be a file to write. Received: {place}, which is a {'folder' * place.is_dir() or 'device'}"
        )
    encoder = encoders.load_encoder(run_dir, settings.layer)
    count = 0
    if settings.images:
        columns, kind, data = ("file", "folder"), "embeddings", config.data.judged_on
        paths = image_paths(settings.places)
        total, parts = len(paths), _of_files(encoder, paths, settings.max_bad_files)
    else:
        columns, kind, data = ("split", "label"), "dataset_embeddings", data_source(settings, config.data)
        dataset = open_data(*data, config, run_dir)
        total, parts = len(dataset.train) + len(dataset.test or ()), _of_data(encoder, dataset)
    folder = results_folder(run_dir, settings.layer, data, config.data)
    out = Path(settings.out or folder / f"{kind}.{settings.format}")
    about = {"layer": str(settings.layer), "encoder_digest": encoders.weights_digest(encoder)}
    with (
        files.replacing(out) as file,
        FORMATS[settings.format](file, columns, encoder.output_shape[-1], about) as write,
    ):
        for words, features in parts:
            write(words, features)
            count += len(features)
    print(f"{count} of {total} images, {encoder.output_shape[-1]} dimensions each\n{out}")
    return out


def _of_files(encoder: keras.Model, paths: list[str], max_bad_files: int) -> Iterator[tuple[Words, np.ndarray]]:
    for names, features in extract_files(encoder, paths, max_bad_files):
        yield {"file": names, "folder": [Path(name).parent.name for name in names]}, features


def _of_data(encoder: keras.Model, dataset: Dataset) -> Iterator[tuple[Words, np.ndarray]]:
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        if split is None:
            continue
        known = None if split.labels is None else np.array(dataset.class_names)[split.labels]
        labels = iter([""] * len(split) if known is None else known.tolist())
        for features in extract_batches(encoder, split):
            count = len(features)
            yield {"split": [name] * count, "label": list(itertools.islice(labels, count))}, features


@contextlib.contextmanager
def _npz(file: IO[bytes], columns: Sequence[str], dimensions: int, about: dict[str, str]) -> Iterator[Write]:
    """An archive of the arrays; features go to disk as they come, and are copied into it at the end."""
    said: Words = {column: [] for column in columns}
    path = Path(f"{file.name}.h")
    try:
        with path.open("wb") as kept:

            def write(words: Words, h: np.ndarray) -> None:
                for column in columns:
                    said[column].extend(words[column])
                kept.write(np.ascontiguousarray(h, np.float32).tobytes())

            yield write
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for column, values in (said | about).items():
                with archive.open(f"{column}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.array(values, dtype=np.str_))
            with archive.open("h.npy", "w", force_zip64=True) as member:
                header: dict[str, Any] = {
                    "descr": "<f4",
                    "fortran_order": False,
                    "shape": (len(said[columns[0]]), dimensions),
                }
                np.lib.format.write_array_header_2_0(member, header)
                with path.open("rb") as features:
                    while part := features.read(2**24):
                        member.write(part)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _parquet(file: IO[bytes], columns: Sequence[str], dimensions: int, about: dict[str, str]) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.float32(), dimensions)
    schema = pyarrow.schema([*((column, pyarrow.string()) for column in columns), ("h", kind)], metadata=about)
    with parquet.ParquetWriter(file, schema) as writer:

        def write(words: Words, h: np.ndarray) -> None:
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(h.ravel()), dimensions)
            texts = [pyarrow.array(list(map(printable, words[column])), pyarrow.string()) for column in columns]
            writer.write_table(pyarrow.table([*texts, rows], schema=schema))

        yield write


FORMATS = {"npz": _npz, "parquet": _parquet}
