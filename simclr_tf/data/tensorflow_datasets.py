"""Image data sets of the package tensorflow-datasets, from the TFRecord shards in which it prepares them."""

import importlib.util

from simclr_tf.data.records import Keys, dataset_of
from simclr_tf.data.source import Dataset

TEST_SPLITS = ("test", "validation")  # the first that there is


def load_tfds(name: str, data_dir: str | None, image_size: int) -> Dataset:
    """Reads a data set that is prepared, or downloads and prepares it first.

    Args:
        name: "tfds:" and the data set's name, with a configuration or version if need be, as `tfds.builder` takes it.
        data_dir: Folder of prepared data sets; None for the package's default.
        image_size: Side of the square images, in pixels.

    Raises:
        ValueError: If the package is missing, or the data set is unknown, cannot be prepared, has no image, or is kept in
            another format than TFRecord.
    """
    if missing := [
        part for part in ("tensorflow_datasets", "importlib_resources") if not importlib.util.find_spec(part)
    ]:
        raise ValueError(
            f"`dataset={name}` needs the extra tfds: pip install simclr-tf[tfds]. Received: no {missing[0]}"
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
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if len(images) != 1 or "train" not in splits:
        raise ValueError(
            f"`dataset={name}` must have a split named train, of one image each. "
            f"Received: splits {sorted(splits)}, features {sorted(features)}"
        )
    kind = str(getattr(builder.info.file_format, "value", builder.info.file_format))
    if kind != "tfrecord":
        raise ValueError(f'`dataset={name}` must be prepared as TFRecord: `file_format="tfrecord"`. Received: {kind}')
    test = next((split for split in TEST_SPLITS if split in splits), None)
    train_files, test_files = ([str(path) for path in splits[s].filepaths] if s else [] for s in ("train", test))
    label = labels[0] if len(labels) == 1 else None
    classes = features[label].names if label else None
    return dataset_of(builder.name, train_files, test_files, image_size, Keys(images[0], label, None), classes)
