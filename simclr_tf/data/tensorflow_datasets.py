"""Image data sets of the package tensorflow-datasets, from the shards in which it prepares them.

Shards of another format than TFRecord hold the same records; they are copied once, since only TFRecord can be read by
TensorFlow's own operations.
"""

import importlib.util
from collections.abc import Callable, Iterator

from simclr_tf.data.records import Keys, dataset_of
from simclr_tf.data.source import Dataset
from simclr_tf.data.tfrecord import cached, write

TEST_SPLITS = ("test", "validation")  # the first that there is, and that has labels
AT_A_TIME = 256  # records that are in memory while a shard is copied


def load_tfds(name: str, data_dir: str | None, image_size: int) -> Dataset:
    """Reads a data set that is prepared, or downloads and prepares it first.

    Args:
        name: "tfds:" and the data set's name, with a configuration or version if need be, as `tfds.builder` takes it.
        data_dir: Folder of prepared data sets; None for the package's default.
        image_size: Side of the square images, in pixels.

    Raises:
        ValueError: If the package is missing, or the data set is unknown, cannot be prepared, has no image, or is kept in
            a format that cannot be read.
    """
    if missing := [
        part for part in ("tensorflow_datasets", "importlib_resources") if not importlib.util.find_spec(part)
    ]:
        raise ValueError(
            f"`dataset={name}` needs: pip install tensorflow-datasets importlib_resources. Received: no {missing[0]}"
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name.partition(":")[2], data_dir=data_dir)
        if not builder.info.splits:
            builder.download_and_prepare()
    except Exception as error:  # each data set's own code runs here
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"`dataset={name}` could not be prepared. Received: {reason[:300]}") from error
    splits, features = builder.info.splits, builder.info.features
    preferred = builder.info.supervised_keys or ()

    def keys_of(kind: type) -> list[str]:
        found = [key for key, feature in features.items() if isinstance(feature, kind)]
        return [key for key in found if key in preferred] or found

    images, labels = keys_of(tfds.features.Image), keys_of(tfds.features.ClassLabel)
    if len(images) != 1 or "train" not in splits:
        raise ValueError(
            f"`dataset={name}` must have a split named train, of one image each. "
            f"Received: splits {sorted(splits)}, features {sorted(features)}"
        )
    kind = str(getattr(builder.info.file_format, "value", builder.info.file_format))
    if kind != "tfrecord" and kind not in COPIED:
        raise ValueError(f"`dataset={name}` must be prepared as tfrecord, {' or '.join(COPIED)}. Received: {kind}")
    train, *tests = (
        [_as_tfrecord(str(path), COPIED[kind]) if kind in COPIED else str(path) for path in splits[split].filepaths]
        for split in ("train", *TEST_SPLITS)
        if split in splits
    )
    label = labels[0] if len(labels) == 1 else None
    classes = features[label].names if label else None
    several = f"{builder.name}: read without labels, since it has several, {', '.join(labels)}, none of them preferred"
    notes = [several] if len(labels) > 1 else []
    return dataset_of(builder.name, train, tests, image_size, Keys(images[0], label, None), classes, notes)


def _as_tfrecord(path: str, records: Callable[[str], Iterator[bytes]]) -> str:
    """The path of a shard's copy as TFRecord, in the user's cache."""
    return cached(path, lambda copy: write(copy.name, records(path)))


def _array_records(path: str) -> Iterator[bytes]:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(path)
    for start in range(0, reader.num_records(), AT_A_TIME):
        yield from reader.read(start, min(start + AT_A_TIME, reader.num_records()))
    reader.close()


def _parquet(path: str) -> Iterator[bytes]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for batch in file.iter_batches(AT_A_TIME, columns=["data"]):
            yield from batch.column(0).to_pylist()


COPIED = {"array_record": _array_records, "parquet": _parquet}  # both packages come with tensorflow-datasets
