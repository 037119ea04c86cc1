"""Prepares a folder of images as the data set `tfds:photographs` of tensorflow-datasets: what its reading is timed on.

    python -m benchmarks.photographs PHOTOS
    python -m benchmarks.photographs_tfds PHOTOS DIR

PHOTOS has train/CLASS and test/CLASS. The files go in as they are.
"""

import argparse
from pathlib import Path

import tensorflow_datasets as tfds


def prepare(photos: Path, data_dir: str | Path) -> None:
    """Writes the data set; splits are the folders of `photos`, classes the folders in `train`."""

    class Photographs(tfds.core.GeneratorBasedBuilder):  # in here, because the classes are the folder's
        """Photographs of a folder."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            names = sorted(path.name for path in (photos / "train").iterdir())
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=names)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(photos / split) for split in ("train", "test")}

        def _generate_examples(self, folder: Path):
            for path in sorted(folder.glob("*/*")):
                yield path.name, {"image": str(path), "label": path.parent.name}

    Photographs(data_dir=str(data_dir)).download_and_prepare()


if __name__ == "__main__":
    # tensorflow-datasets looks for the module of the class, which must not be `__main__`.
    from benchmarks import photographs_tfds

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of images, with train/CLASS and test/CLASS")
    parser.add_argument("data_dir", help="folder to write to, which `--data_dir` then names")
    args = parser.parse_args()
    photographs_tfds.prepare(args.photos, args.data_dir)
