"""Writes JPEGs that look and compress like photographs, 500 x 375, from a few real ones: what the input is timed on.

    python -m benchmarks.photographs OUT --count=20000 --scenes=DIR

writes OUT/train/CLASS/NNNNN.jpg, and the last tenth of the files into OUT/test/CLASS. A class is a folder of `--scenes`, at
any depth, or a group of the photographs that scikit-image ships with, where it is installed. Each file is a crop of one of
them, warped, flipped, recolored and with the grain of a sensor, as JPEG of quality 88 to 95; the mean size is about 100 KB,
near ImageNet's 110. One in 50 was taken upright, 375 x 500, and lies on its side with EXIF orientation 6. A file depends on
the seed, its number and the sources alone. Both splits are made of the same photographs: a classifier can learn the
classes, but its accuracy says nothing about new ones.
"""

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

SIZE = 500, 375
QUALITY = 88, 92, 95, 95, 95  # of JPEG, each as often
UPRIGHT_EVERY = 50
TEST_SHARE = 10  # one file in so many
EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp")
# scikit-image's own photographs by class, the names of functions of `skimage.data`; none is downloaded.
GROUPS = {
    "cat": ["cat"],
    "coffee": ["coffee"],
    "ground": ["brick", "grass", "gravel"],
    "motorcycle": ["stereo_motorcycle"],
    "person": ["astronaut", "camera"],
    "rocket": ["rocket"],
    "sky": ["hubble_deep_field", "moon"],
    "tissue": ["immunohistochemistry", "retina"],
}

_LONGEST = 900  # pixels of a source's longer side, so that no crop shrinks so much that it aliases
_ORIENTATION, _ON_ITS_SIDE = 0x0112, 6  # EXIF; shown after a quarter turn clockwise

Sources = Mapping[str, Sequence[str | Path]]


def sources(scenes: str | Path = "") -> dict[str, list[str | Path]]:
    """The photographs to start from: files below a folder, and names of `skimage.data` where it is installed.

    Args:
        scenes: Folder of image files; each file's class is the name of the folder it lies in.

    Returns:
        Sources by class, both sorted.

    Raises:
        ValueError: There is none, none in `scenes`, or a class of `scenes` has the name of a group.
    """
    found: dict[str, list[str | Path]] = defaultdict(list)
    for path in sorted(Path(scenes).rglob("*")) if scenes else ():
        if path.suffix.lower() in EXTENSIONS:
            found[path.parent.name].append(path)
    if scenes and not found:
        raise ValueError(f"scenes must be a folder with image files. Received: {str(scenes)!r}")
    try:
        import skimage  # noqa: F401
    except ModuleNotFoundError:
        print("scikit-image is not installed (pip install scikit-image): only --scenes is used", file=sys.stderr)
    else:
        if both := sorted(found.keys() & GROUPS):
            raise ValueError(f"the classes of scenes must not have names of scikit-image's groups. Received: {both}")
        found.update({name: list(pictures) for name, pictures in GROUPS.items()})
    if not found:
        raise ValueError(f"without scikit-image, scenes must be given. Received: {str(scenes)!r}")
    return dict(sorted(found.items()))


def generate(out: str | Path, count: int, found: Sources, seed: int = 0, workers: int = 1) -> dict[str, float]:
    """Writes the files.

    Args:
        out: Folder to write to, empty or absent.
        count: Number of files of both splits.
        found: Sources by class, as `sources` returns them.
        seed: Seed of all random draws.
        workers: Number of processes.

    Returns:
        `files`, `seconds`, `files_per_second` and `mean_kb` (1000 bytes).

    Raises:
        ValueError: `out` is not empty, or `count` or `workers` is not positive.
    """
    out = Path(out)
    if min(count, workers) < 1:
        raise ValueError(f"count and workers must be positive. Received: {count}, {workers}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out must be an empty folder or not exist. Received: {str(out)!r}")
    start, size = time.perf_counter(), 0
    for done, one in enumerate(_sizes(functools.partial(_write, out, count, found, seed), count, workers), 1):
        size += one
        if done % 200 == 0 or done == count:
            rate = done / (time.perf_counter() - start)
            print(f"\r{done}/{count} files, {rate:.0f} files/s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.perf_counter() - start
    return {"files": count, "seconds": seconds, "files_per_second": count / seconds, "mean_kb": size / count / 1000}


def _sizes(write: Callable[[int], int], count: int, workers: int) -> Iterator[int]:
    """Calls a function with every number, in several processes if there are several workers; yields in any order."""
    if workers == 1:
        yield from map(write, range(count))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(write, range(count), chunksize=16)


def _write(out: Path, count: int, found: Sources, seed: int, number: int) -> int:
    """Writes one file and returns its size in bytes."""
    rng = np.random.default_rng((seed, number))
    name = list(found)[number % len(found)]
    upright = is_upright(number, len(found))
    source = found[name][int(rng.integers(len(found[name])))]
    picture = _cropped(load(source), SIZE[::-1] if upright else SIZE, rng)
    picture = _grained(_recolored(picture, rng), rng)
    split = "test" if number >= count - count // TEST_SHARE else "train"
    path = out / split / name / f"{number:05d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(picture, path, QUALITY[rng.integers(len(QUALITY))], upright)
    return path.stat().st_size


def is_upright(number: int, classes: int) -> bool:
    """Whether a file is one of those that lie on their side; the classes take turns, and each has one in 50."""
    row, column = divmod(number, classes)
    return (row - column) % UPRIGHT_EVERY == 0


def save(picture: Image.Image, path: Path, quality: int, upright: bool) -> None:
    """Saves a picture as JPEG; an upright one lies on its side, with the orientation that turns it back."""
    exif = Image.Exif()
    if upright:
        picture, exif[_ORIENTATION] = picture.transpose(Image.Transpose.ROTATE_90), _ON_ITS_SIDE
    picture.save(path, quality=quality, exif=exif)


@functools.lru_cache(maxsize=1024)
def load(source: str | Path) -> Image.Image:
    """A source in RGB, no larger than needed; a name, not a path, is one of scikit-image's."""
    if isinstance(source, Path):
        with Image.open(source) as file:
            picture = file.convert("RGB")
    else:
        from skimage import data

        pixels = getattr(data, source)()
        picture = Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels).convert("RGB")
    picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return picture


def _cropped(picture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A crop, turned by up to 6 degrees, its corners moved as if the camera were tilted, in half of the cases flipped."""
    whole = np.array(picture.size, float)
    side = np.array(size) * min(whole / size) * rng.uniform(0.65, 1)  # (2,)
    center = side / 2 + rng.random(2) * (whole - side)
    angle = np.deg2rad(rng.uniform(-6, 6))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * side / 2  # (4, 2), from the upper left against the clock
    corners = corners @ turn.T + rng.uniform(-0.05, 0.05, (4, 2)) * side
    if rng.random() < 0.5:
        corners = corners[::-1]  # from the upper right
    corners = np.clip(center + corners, 0, whole)
    return picture.transform(size, Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BICUBIC)


def _recolored(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Other exposure, contrast and white balance, one table of 256 values a channel; other saturation."""
    levels = np.arange(256) / 255
    gamma, contrast, saturation = np.exp(rng.uniform((-0.3, -0.1, -0.3), (0.3, 0.25, 0.25)))
    balance = np.exp(rng.uniform(-0.12, 0.12, 3))[:, None]
    tables = 0.5 + contrast * (np.clip(balance * levels, 0, 1) ** gamma - 0.5)  # (3, 256)
    picture = picture.point((255 * np.clip(tables, 0, 1)).round().astype(int).ravel().tolist())
    return Image.blend(picture.convert("L").convert("RGB"), picture, saturation)


@functools.cache
def _grain() -> np.ndarray:
    """Grain of unit deviation, (1024, 1024, 3): most of it common to the channels, and as fine as a mosaic sensor's."""
    noise = np.random.default_rng(0).standard_normal((1024, 1024, 4), np.float32)
    noise = 0.8 * noise[..., 3:] + 0.6 * noise[..., :3]
    noise = noise + 0.3 * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))
    return noise / noise.std()


def _grained(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Adds grain, most where there are edges: enlarged pictures lack the fine detail that fills a photograph's file."""
    width, height = picture.size
    gray = picture.convert("L")
    detail = ImageChops.difference(gray, gray.filter(ImageFilter.BoxBlur(2))).filter(ImageFilter.BoxBlur(3))
    strength = rng.uniform(2, 5) + rng.uniform(1, 2.2) * np.minimum(np.asarray(detail, np.float32), 25)
    y, x = rng.integers(0, (1024 - height, 1024 - width))
    noise = strength[..., None] * _grain()[y : y + height, x : x + width]
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files and prints a line about them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to write to, empty or absent")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--scenes", default="", help="folder of photographs, in a folder for each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args(argv)
    try:
        found = sources(args.scenes)
        made = generate(args.out, args.count, found, args.seed, args.workers)
    except ValueError as error:
        parser.error(str(error))
    print("{files} files in {seconds:.0f} s, {files_per_second:.0f} files/s, mean {mean_kb:.0f} KB".format(**made))


if __name__ == "__main__":
    main()
