"""A folder of images, as `--dataset=folder` reads it, to TFRecord shards in the layout in which ImageNet is usually kept.

    python -m simclr_tf.data.convert FOLDER RECORDS [--shard_mib=128] [--max_side=512]

RECORDS gets `train-00000-of-00010.tfrecord` and so on, `test-...` where FOLDER has test images, and `shards.json` with the
SHA-256 of each; `--dataset=records:RECORDS/*` reads it. Files go in as they are, unless `--max_side` is given: then an
image with a longer side is shrunk and saved as a JPEG of quality 95. The same command continues after an interruption.
"""

# isort: off
import simclr_tf.quiet  # noqa: F401  # before TensorFlow
# isort: on

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from simclr_tf.data import tfrecord
from simclr_tf.data.folder import FileImages, load_folder
from simclr_tf.data.source import CORES, Dataset, Split
from simclr_tf.files import alone_in, replacing, write_json
from simclr_tf.progress import progress

QUALITY = 95  # of a JPEG that is saved anew
LIST = "shards.json"
MEBIBYTE = 2**20


def convert(folder: str | Path, records: str | Path, shard_mib: int = 128, max_side: int | None = None) -> list[str]:
    """Writes the shards that are not there yet; each is written whole or not at all.

    The images of a split are spread over its shards in an order drawn once and for all, so that each shard has images of
    all classes.

    Args:
        folder: Folder of images.
        records: Folder for the shards, created if needed.
        shard_mib: Size of a shard in MiB, about.
        max_side: Longer side, in pixels, that no image exceeds; None leaves files as they are.

    Returns:
        What was left out, one sentence each.

    Raises:
        ValueError: If a size is too small, the folder has no images, a file cannot be read, or `records` holds shards
            of something else.
    """
    if shard_mib < 1 or (max_side is not None and max_side < 8):
        raise ValueError(f"A shard has at least 1 MiB, an image 8 pixels. Received: {shard_mib} MiB, {max_side} pixels")
    dataset, target = load_folder(folder, image_size=8), Path(records)
    splits = {"train": dataset.train} | ({"test": dataset.test} if dataset.test else {})
    plan: dict[str, Any] = {"shard_mib": shard_mib, "max_side": max_side}
    plan |= {name: split.images.stamp() for name, split in splits.items()}
    plan["shards"] = {name: _shards(_files(split), shard_mib, max_side) for name, split in splits.items()}
    target.mkdir(parents=True, exist_ok=True)
    with alone_in(target):
        _write(dataset, splits, plan, target)
    return list(dataset.notes)


def _write(dataset: Dataset, splits: Mapping[str, Split], plan: dict[str, Any], target: Path) -> None:
    """Writes the shards of a plan that are not there yet."""
    done: dict[str, Any] = {"plan": plan, "shards": {}}
    if (target / LIST).exists():
        kept = json.loads((target / LIST).read_text())
        if not isinstance(kept, dict) or not kept.keys() >= done.keys():
            raise ValueError(f"Expected a list of shards by this converter. Received: {target / LIST}")
        if kept["plan"] == plan:
            done = kept
        elif any(target.glob("*.tfrecord")):
            raise ValueError(
                f"{target} holds shards of other images or settings: delete it, or name another folder. "
                f"Received: {plan['shard_mib']} MiB, `max_side={plan['max_side']}`"
            )
    elif any(not _left_by_a_kill(path) for path in target.iterdir()):
        raise ValueError(
            f"Expected a new folder, or one with shards to add to. Received: {target}, which has other files"
        )
    for path in filter(_left_by_a_kill, target.glob("*")):
        path.unlink()
    write_json(target / LIST, done)  # before any shard, which without it would be one of another program
    for name, split in splits.items():
        _write_split(name, split, dataset, target, done)


def _left_by_a_kill(path: Path) -> bool:
    """Whether a file is the beginning of a shard, or of their list, that was never finished."""
    return path.name.startswith((".train-", ".test-", f".{LIST}.")) and path.suffix == ".tmp"


def _files(split: Split) -> FileImages:
    if not isinstance(split.images, FileImages):
        raise ValueError(f"Expected files. Received: {type(split.images).__name__}")
    return split.images


def _shards(files: FileImages, shard_mib: int, max_side: int | None) -> int:
    """How many shards have about that size."""
    sizes = np.array([Path(path).stat().st_size for path in files.paths], float)
    if max_side:  # about what the smaller images will have
        sizes *= np.minimum(1.0, max_side / files.shapes.numpy().max(axis=1)) ** 2
    return min(max(1, round(sizes.sum() / MEBIBYTE / shard_mib)), len(sizes))


def _write_split(name: str, split: Split, dataset: Dataset, target: Path, done: dict[str, Any]) -> None:
    max_side, files = done["plan"]["max_side"], _files(split)
    paths, root = files.paths, files.root
    order = np.random.RandomState(0).permutation(len(paths))  # NumPy never changes its stream
    parts = np.array_split(order, done["plan"]["shards"][name])
    labels = split.labels if split.labels is not None else np.full(len(paths), -1)
    names = dataset.class_names or ()
    for number, part in enumerate(progress(parts, f"writing {name}", len(parts))):
        shard = f"{name}-{number:05}-of-{len(parts):05}.tfrecord"
        if shard in done["shards"] and (target / shard).exists():
            continue
        chosen = [(paths[index], os.path.relpath(paths[index], root), int(labels[index])) for index in part]
        with replacing(target / shard) as file:
            tfrecord.write(file.name, _examples(chosen, names, max_side))
            with open(file.name, "rb") as written:
                digest = hashlib.file_digest(written, "sha256").hexdigest()
        done["shards"][shard] = {"images": len(part), "sha256": digest}
        write_json(target / LIST, done)


def _examples(
    chosen: Sequence[tuple[str, str, int]], names: Sequence[str], max_side: int | None, at_a_time: int = 256
) -> Iterator[bytes]:
    """The records of some files."""
    with ThreadPoolExecutor(CORES) as threads:
        for start in range(0, len(chosen), at_a_time):
            yield from threads.map(lambda file: _example(file, names, max_side), chosen[start : start + at_a_time])


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper eight of 16 bits, as TensorFlow reads them; Pillow would clip instead."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _example(file: tuple[str, str, int], names: Sequence[str], max_side: int | None) -> bytes:
    path, name, label = file
    contents = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(contents)) as image:
            kind, (width, height) = image.format or "", image.size
            if max_side and max(width, height) > max_side:
                upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
                upright.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=None)
                kind, (width, height), saved = "JPEG", upright.size, io.BytesIO()
                upright.save(saved, kind, quality=QUALITY)
                contents = saved.getvalue()
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(f"Expected image files. Received: {path} ({error})") from error
    texts = {"image/encoded": contents, "image/format": kind.encode(), "image/filename": os.fsencode(name)}
    numbers = {"image/height": height, "image/width": width}
    if label >= 0:  # counted from 1, as ImageNet's are
        numbers["image/class/label"], texts["image/class/text"] = label + 1, names[label].encode()
    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])) for key, text in texts.items()}
    feature |= {key: tf.train.Feature(int64_list=tf.train.Int64List(value=[n])) for key, n in numbers.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def main(words: Sequence[str]) -> None:
    """The command."""
    settings = {
        name: int(value) for word in words for name, value in re.findall(r"^--(shard_mib|max_side)=(\d+)$", word)
    }
    places = [word for word in words if not word.startswith("--")]
    if len(places) != 2 or len(places) + len(settings) != len(words):
        usage = "python -m simclr_tf.data.convert FOLDER RECORDS [--shard_mib=128] [--max_side=512]"
        raise ValueError(f"usage: {usage}. Received: {' '.join(words)}")
    for note in convert(places[0], places[1], **settings):
        print(f"note     {note}")
    print(f"records  {places[1]}: read it with --dataset=records:{places[1]}/*")


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        sys.exit()
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"convert: error: {error}".replace("`", ""))
    except KeyboardInterrupt:
        sys.exit("convert: interrupted: the same command continues")
