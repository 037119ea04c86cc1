"""CIFAR-10 from PNG files, such as those of https://github.com/cyizhuo/CIFAR-10-dataset, to the official binary layout.

    python -m simclr_tf.data.from_png PNG_FOLDER DATA_DIR

PNG_FOLDER has `train/CLASS/*.png` and `test/CLASS/*.png` of 32 x 32 pixels; DATA_DIR gets `cifar-10-batches-bin`, which
`--data_dir=DATA_DIR` reads.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_tf.files import replacing_folder
from simclr_tf.progress import progress


def convert(png_folder: str | Path, data_dir: str | Path) -> Path:
    """Writes the images of a tree of PNG files as CIFAR-10's binary version, whole or not at all; returns its folder.

    Training images are spread over the five files in an order drawn once and for all, so that each file has all classes.

    Raises:
        ValueError: If the folder to write is there, a split or a class is missing, or an image is not 32 x 32 pixels.
        OSError: If a file cannot be read or written.
    """
    root, target = Path(png_folder), Path(data_dir, "cifar-10-batches-bin")
    if target.exists():
        raise ValueError(f"Expected a place for a new folder: delete the old one first. Received: {target}")
    classes = sorted(path.name for path in root.glob("train/*/"))
    if len(classes) != 10 or classes != sorted(path.name for path in root.glob("test/*/")):
        raise ValueError(f"Expected train/ and test/ with the same ten classes. Received: {root}, with {classes}")
    train, test = (_records(root / split, classes) for split in ("train", "test"))
    train = train[np.random.RandomState(0).permutation(len(train))]
    with replacing_folder(target) as folder:
        folder.mkdir(parents=True)
        for number, part in enumerate(np.array_split(train, 5), start=1):  # the official number of files
            (folder / f"data_batch_{number}.bin").write_bytes(part.tobytes())
        (folder / "test_batch.bin").write_bytes(test.tobytes())
        (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n")
    return target


def _records(split: Path, classes: list[str]) -> np.ndarray:
    """The images of a split, uint8 (N, 3073): a label, then the pixels channel by channel."""
    paths = [(label, path) for label, name in enumerate(classes) for path in sorted((split / name).glob("*.png"))]
    if not paths:
        raise ValueError(f"Expected PNG files in class folders. Received: {split}, without any")
    with ThreadPoolExecutor() as workers:
        records = workers.map(lambda pair: _record(*pair), paths)
        return np.stack(list(progress(records, f"reading {split.name}", len(paths))))


def _record(label: int, path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(f"Expected PNG files. Received: {path} ({error})") from error
    if pixels.shape != (32, 32, 3):
        raise ValueError(f"Expected images of 32 x 32 pixels. Received: {path}, of {image.width} x {image.height}")
    return np.concatenate([[np.uint8(label)], pixels.transpose(2, 0, 1).reshape(-1)])


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        sys.exit()
    if len(sys.argv) != 3:
        sys.exit(f"usage: python -m simclr_tf.data.from_png PNG_FOLDER DATA_DIR. Received: {' '.join(sys.argv[1:])}")
    try:
        print(convert(*sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"from_png: error: {error}")
