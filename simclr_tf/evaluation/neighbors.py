"""What the encoder finds similar: the nearest images of each query, as a picture and as CSV."""

import os
from pathlib import Path

import numpy as np

from simclr_tf import encoders, figures, files
from simclr_tf.config import Config, Neighbors
from simclr_tf.data.folder import decoded, image_paths, printable
from simclr_tf.evaluation.features import extract_files
from simclr_tf.inspect.nearest import nearest
from simclr_tf.places import results_folder

DRAWN = 20  # queries at most in the picture
SIDE = 64  # pixels of an image in it


def run(run_dir: Path, config: Config, settings: Neighbors) -> Path:
    """Writes `neighbors.csv` and `neighbors.png` into the run's evaluation folder; prints and returns the CSV's path.

    A query that is among the images searched is not its own neighbor.

    Raises:
        ValueError: If there is no image, or more than `max_bad_files` are unreadable.
    """
    encoder = encoders.load_encoder(run_dir, settings.layer)
    queries = image_paths(settings.places)
    query_files, features = _features(encoder, queries, settings.max_bad_files)
    bank_files, bank = query_files, features
    if settings.among:
        among = {os.path.realpath(name): name for name in image_paths(settings.searched)}  # once each
        bank_files, bank = _features(encoder, list(among.values()), settings.max_bad_files)
    real = {name: os.path.realpath(name) for name in {*query_files, *bank_files}}
    once = list({real[name]: number for number, name in enumerate(bank_files)}.values())
    bank_files, bank = [bank_files[number] for number in once], bank[once]
    k = min(settings.nearest, len(bank_files))
    rows: list[tuple[str, list[tuple[str, float]]]] = []
    for start, similarities, found in nearest(features, bank, min(k + 1, len(bank_files))):
        for number, (values, indices) in enumerate(zip(similarities, found, strict=True), start):
            near = [(bank_files[i], float(s)) for i, s in zip(indices, values, strict=True)]
            query = query_files[number]
            rows.append((query, [pair for pair in near if real[pair[0]] != real[query]][:k]))
    folder = results_folder(run_dir, settings.layer, config.data.judged_on, config.data)
    path = folder / "neighbors.csv"
    lines = ([query, rank, name, f"{value:.6f}"] for query, near in rows for rank, (name, value) in enumerate(near, 1))
    files.write_csv(path, ["query", "rank", "neighbor", "similarity"], lines)
    _draw(rows[:DRAWN], folder / "neighbors.png")
    print(path, folder / "neighbors.png", sep="\n")
    return path


def _features(encoder, paths: list[str], max_bad_files: int) -> tuple[list[str], np.ndarray]:
    parts = list(extract_files(encoder, paths, max_bad_files))
    return [name for names, _ in parts for name in names], np.concatenate([features for _, features in parts])


def _draw(rows: list[tuple[str, list[tuple[str, float]]]], out: Path) -> None:
    """A row for each query: the query, then its neighbors; white where there are fewer."""
    width = 1 + max(len(near) for _, near in rows)
    names = [[query, *(name for name, _ in near)] for query, near in rows]
    images: dict[str, np.ndarray] = {}
    for done, pixels, _ in decoded(sorted(set().union(*names)), SIDE, 64):
        images |= zip(done, pixels, strict=True)
    blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
    picture = [np.stack([images.get(name, blank) for name in row] + [blank] * (width - len(row))) for row in names]
    titles = ["query", *map(str, range(1, width))]
    figures.image_grid(picture, [printable(Path(query).name)[:24] for query, _ in rows], out, 1, titles)
