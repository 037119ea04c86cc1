"""Representations of image files, for other programs."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from simclr_tf import encoders, files
from simclr_tf.config import Config, Embed
from simclr_tf.data.folder import image_paths
from simclr_tf.evaluation.features import extract_files

Write = Callable[[list[str], np.ndarray], None]  # files, and their features


def run(run_dir: Path, config: Config, settings: Embed) -> Path:
    """Writes the representation of each image file, and prints and returns the path of the result.

    It has the columns `file`, `h` (float32) and, where images are in folders, `folder`, whose name is the label in a
    folder of classes. As .npz these are arrays, as .parquet columns.

    Raises:
        ValueError: If there is no image, more than `max_bad_files` are unreadable, or pyarrow is missing.
    """
    out = Path(settings.out or run_dir / "evaluation" / f"embeddings.{settings.format}")
    paths = image_paths(settings.places)
    encoder = encoders.load_encoder(run_dir, settings.layer)
    size, count = encoder.input_shape[1], 0
    with (
        files.replacing(out) as file,
        FORMATS[settings.format](file, encoder.output_shape[-1]) as write,
    ):
        for names, features in extract_files(encoder, paths, size, settings.max_bad_files):
            write(names, features)
            count += len(names)
    print(f"{count} of {len(paths)} images, {encoder.output_shape[-1]} dimensions each\n{out}")
    return out


@contextlib.contextmanager
def _npz(file: IO[bytes], dimensions: int) -> Iterator[Write]:
    """An archive of the arrays; features go to disk as they come, and are copied into it at the end."""
    names: list[str] = []
    path = Path(f"{file.name}.h")
    try:
        with path.open("wb") as kept:

            def write(batch: list[str], h: np.ndarray) -> None:
                names.extend(batch)
                kept.write(np.ascontiguousarray(h, np.float32).tobytes())

            yield write
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, values in (("file", names), ("folder", [Path(name).parent.name for name in names])):
                with archive.open(f"{key}.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(values, dtype=np.str_))
            with archive.open("h.npy", "w", force_zip64=True) as member:
                header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (len(names), dimensions)}
                np.lib.format.write_array_header_2_0(member, header)
                with path.open("rb") as features:
                    while part := features.read(2**24):
                        member.write(part)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _parquet(file: IO[bytes], dimensions: int) -> Iterator[Write]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("`format=parquet` needs pyarrow: `pip install pyarrow`. Received: none installed") from error
    kind = pyarrow.list_(pyarrow.float32(), dimensions)
    schema = pyarrow.schema([("file", pyarrow.string()), ("folder", pyarrow.string()), ("h", kind)])
    with parquet.ParquetWriter(file, schema) as writer:

        def write(batch: list[str], h: np.ndarray) -> None:
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(h.ravel()), dimensions)
            folders = [Path(name).parent.name for name in batch]
            writer.write_table(pyarrow.table([pyarrow.array(batch), pyarrow.array(folders), rows], schema))

        yield write


FORMATS = {"npz": _npz, "parquet": _parquet}
