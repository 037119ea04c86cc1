"""Data sets of tensorflow-datasets, in each of its file formats."""

import numpy as np
import pytest

from simclr_tf.data import load

SIZE = 12

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def squares():
    """A data set of tensorflow-datasets, and its ten images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("importlib_resources")
    pixels = np.random.default_rng(0).integers(0, 256, (10, SIZE, SIZE, 3), np.uint8)

    class Squares(tfds.core.GeneratorBasedBuilder):  # a name can be registered once
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
                "label": tfds.features.ClassLabel(names=["b", "a"]),
                "mask": tfds.features.Image(shape=(SIZE, SIZE, 1)),  # as pets and CIFAR-100 have such ones beside
                "kind": tfds.features.ClassLabel(num_classes=3),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(range(8)), "test": self._generate_examples(range(8, 10))}

        def _generate_examples(self, indices):
            for index in indices:
                yield index, {"image": pixels[index], "label": index % 2, "mask": pixels[index, ..., :1], "kind": 0}

    return Squares, pixels


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record", "parquet"])
def test_tensorflow_datasets_are_read_from_their_shards(squares, tmp_path, monkeypatch, file_format):
    monkeypatch.setattr("simclr_tf.data.tensorflow_datasets.AT_A_TIME", 3)  # so that a shard takes several turns
    builder, pixels = squares
    builder(data_dir=str(tmp_path), file_format=file_format).download_and_prepare()
    dataset = load("tfds:squares", str(tmp_path), SIZE)
    assert dataset.class_names == ("b", "a") and (len(dataset.train), len(dataset.test)) == (8, 2)
    numbers = {image.tobytes(): index for index, image in enumerate(pixels)}
    for split in (dataset.train, dataset.test):
        found = [numbers[image.tobytes()] for image in split.array()]
        assert [index % 2 for index in found] == split.labels.tolist()
    again = load("tfds:squares", str(tmp_path), SIZE)
    assert again.train.images.fingerprint() == dataset.train.images.fingerprint()


def test_of_several_labels_none_is_guessed(squares, tmp_path, monkeypatch):
    squares[0](data_dir=str(tmp_path)).download_and_prepare()
    monkeypatch.setattr("tensorflow_datasets.core.DatasetInfo.supervised_keys", ("image",))
    dataset = load("tfds:squares", str(tmp_path), SIZE)
    assert dataset.train.labels is None
    assert any("read without labels, since it has several, " in note for note in dataset.notes)


def test_an_unknown_tensorflow_dataset_is_named(tmp_path):
    pytest.importorskip("importlib_resources")
    with pytest.raises(ValueError, match="^`dataset=tfds:nonsense_xyz` could not be prepared. Received: "):
        load("tfds:nonsense_xyz", str(tmp_path), SIZE)
