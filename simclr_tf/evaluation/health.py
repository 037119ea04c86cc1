"""Is it any good? A page about a run that needs no labels: numbers, pictures, and a verdict in words."""

import base64
import dataclasses
import importlib.util
import io
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image
from sklearn.manifold import TSNE

from simclr_tf import encoders, figures, files
from simclr_tf.augment import VALIDATION_STEP, TwoViews, make_views
from simclr_tf.augment.base import to_bytes, to_float
from simclr_tf.config import Config, Report
from simclr_tf.data.pipeline import Cuts, ordered_batches, read_batch
from simclr_tf.data.source import Split, readable
from simclr_tf.evaluation.probing import open_data, place
from simclr_tf.inspect.curves import loss_figure
from simclr_tf.inspect.geometry import Geometry, unit, verdict
from simclr_tf.inspect.nearest import nearest
from simclr_tf.progress import progress
from simclr_tf.training import checkpoints, run_folder

BATCH = 256
SHOWN = 8  # rows of a sheet
TEMPLATE = Path(__file__).with_name("health.html")


def run(run_dir: Path, config: Config, settings: Report) -> dict[str, Any]:
    """Writes `report.html`, one file with everything in it, and its numbers as `report.json`.

    The images are test images where there are any, else training images. The same networks at their initial weights are
    measured beside, because some of the numbers say little by themselves.

    Returns:
        The record: `dataset`, `data_dir`, `encoder_digest`, `verdict`, `advice`, `images`, `trained` and `untrained`, the
        numbers of each of the two as `Geometry` has them.

    Raises:
        ValueError: If the data does not fit the encoder.
    """
    data_dir = settings.data_dir or config.data.data_dir
    trained_now = partial(encoders.load_encoder, saved=checkpoints.loaded(run_dir / "checkpoints"))
    dataset = open_data(config.data.dataset, data_dir, config, run_dir)
    split = dataset.test or dataset.train
    chosen = np.random.default_rng(0).permutation(len(split))[: settings.sample]
    rows, pixels = readable(split, np.sort(chosen))
    images = split.take(rows)
    views = make_views(**dataclasses.asdict(config.augmentation), seed=config.training.seed)
    cuts, temperature = views.cuts() if images.larger else None, config.objective.temperature
    layers = (0, config.network.last_layer)
    loaded = [[load(run_dir, layer) for layer in layers] for load in (trained_now, encoders.random_encoder)]
    (trained, untrained), seen = _measure(loaded, images, views, cuts, temperature)
    plain = {"learning_rate": config.optimization.learning_rate, "temperature": config.objective.temperature,
             "epochs": config.training.epochs}  # fmt: skip
    word, advice = verdict(trained.geometry, untrained.geometry, plain)
    record = {
        "mode": "report", "dataset": dataset.name, "data_dir": place(data_dir),
        "encoder_digest": encoders.weights_digest(loaded[0][0]), "verdict": word, "advice": advice, "images": len(images),
        "trained": dataclasses.asdict(trained.geometry), "untrained": dataclasses.asdict(untrained.geometry),
    }  # fmt: skip
    folder = run_dir / "evaluation"
    page = _page(run_dir, config, record, trained, untrained, seen, pixels, images.labels, dataset.class_names)
    files.write_json(folder / "report.json", record)
    files.write_text(folder / "report.html", page)
    print(f"{word}: {advice}\n{folder / 'report.html'}")
    return record


@dataclasses.dataclass(frozen=True)
class Measured:
    """An encoder's representations h (N, D) of images, projections (N, P) of both views, and the numbers of these."""

    h: np.ndarray
    first: np.ndarray
    second: np.ndarray
    geometry: Geometry


def _measure(
    models: Sequence[Sequence[keras.Model]], images: Split, views: TwoViews, cuts: Cuts | None, temperature: float
) -> tuple[list[Measured], np.ndarray]:
    """Measures pairs of models, to h and to z, on the same images and views; returns the views, too, (2, N, H, W, C)."""
    outputs = [[_function(model) for model in pair] for pair in models]
    found: list[tuple[list[np.ndarray], list[np.ndarray]]] = [([], []) for _ in models]
    seen = []
    batches = progress(ordered_batches(images, BATCH), "measuring", math.ceil(len(images) / BATCH))
    for number, part in enumerate(batches):
        indices, step = np.arange(number * BATCH, number * BATCH + len(part)), VALIDATION_STEP - number
        both = views(read_batch(images, indices, step, cuts), step)  # (2B, H, W, C)
        seen.append(np.stack(np.split(to_bytes(both), 2)))
        for (represent, project), (h, z) in zip(outputs, found, strict=True):
            h.append(represent(to_float(part)).numpy())
            z.append(np.stack(np.split(project(both).numpy(), 2)))
    measured = []
    for h, z in found:
        rows, (first, second) = np.concatenate(h), np.concatenate(z, axis=1)
        measured.append(Measured(rows, first, second, Geometry.of(rows, first, second, temperature)))
    return measured, np.concatenate(seen, axis=1)


def _function(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    # One graph for batches of any size: the last one is smaller.
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
    return tf.function(lambda x: tf.cast(model(x, training=False), tf.float32), input_signature=[images])


def _page(
    run_dir: Path, config: Config, record: dict[str, Any], trained: Measured, untrained: Measured, seen: np.ndarray,
    pixels: np.ndarray, labels: np.ndarray | None, class_names,
) -> str:  # fmt: skip
    agreement = np.sum(unit(trained.first) * unit(trained.second), axis=1)
    order = np.argsort(agreement)
    pictures = {
        "Loss": _drawn(loss_figure(run_dir / "metrics.csv")) if (run_dir / "metrics.csv").exists() else "",
        "Similarities of projections": _similarities(trained, untrained),
        "Singular values of h": _singular_values(trained, untrained),
        f"Map of h ({'UMAP' if importlib.util.find_spec('umap') else 't-SNE'})": _map(trained.h, labels, class_names),
        "Nearest images by h: each row begins with the query": _neighbors(trained.h, pixels),
        "Hardest positives: pairs of views that the projections match worst": _pairs(seen, order[: 2 * SHOWN]),
        "Easiest positives": _pairs(seen, order[::-1][: 2 * SHOWN]),
    }
    found = run_dir / "environment.json"  # a run that came back from another program has none
    environment = json.loads(found.read_text()) if found.exists() else {}
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(TEMPLATE.read_text())
    return template.render(
        name=run_folder.title(run_dir), record=record, pictures={k: v for k, v in pictures.items() if v},
        flags=config.flagfile(), environment=environment,
    )  # fmt: skip


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _axes(title: str, xlabel: str, ylabel: str):
    figure = Figure(figsize=(6, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    figures.finish(axes, title, xlabel, ylabel)
    return figure, axes


def _drawn(figure: Figure) -> str:
    return _embedded(figures.png(figure))


def _sheet(rows: np.ndarray) -> str:
    """A picture of images, uint8 (rows, n, H, W, C)."""
    scale = max(1, round(48 / rows.shape[2]))
    file = io.BytesIO()
    Image.fromarray(figures.tile(list(rows), scale)).save(file, format="png", optimize=True)
    return _embedded(file.getvalue())


def _similarities(trained: Measured, untrained: Measured) -> str:
    figure = Figure(figsize=(6, 4.6), dpi=110, layout="constrained")
    for axes, (name, measured) in zip(
        figure.subplots(2, 1, sharex=True), (("trained", trained), ("at random weights", untrained)), strict=True
    ):
        first, second = unit(measured.first), unit(measured.second)
        positives = np.sum(first * second, axis=1)
        negatives = (first @ second.T)[~np.eye(len(first), dtype=bool)]
        figures.finish(axes, name, "", "density", grid="y")
        for values, label, color in (
            (negatives, "other images", figures.COLORS[1]), (positives, "the same image", figures.COLORS[0]),
        ):  # fmt: skip
            axes.hist(
                values.clip(-1, 1), bins=np.linspace(-1, 1, 81), density=True, alpha=0.6, label=label, color=color
            )
    axes.set_xlabel("cosine similarity of two views", color=figures.INK)
    axes.legend(frameon=False, labelcolor=figures.INK)
    return _drawn(figure)


def _singular_values(trained: Measured, untrained: Measured) -> str:
    figure, axes = _axes("", "number", "part of the largest")
    for (name, measured), color in zip(
        (("trained", trained), ("at random weights", untrained)), figures.COLORS, strict=False
    ):
        values = np.linalg.svd(measured.h, compute_uv=False)
        axes.plot(
            np.arange(1, len(values) + 1), np.maximum(values / max(values[0], 1e-12), 1e-8), color=color, label=name
        )
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.legend(frameon=False, labelcolor=figures.INK)
    return _drawn(figure)


def _map(h: np.ndarray, labels: np.ndarray | None, class_names) -> str:
    if len(h) < 10:
        return ""
    if importlib.util.find_spec("umap"):
        from umap import UMAP

        places = UMAP(n_neighbors=min(15, len(h) - 1), random_state=0, n_jobs=1).fit_transform(unit(h))
    else:
        places = TSNE(perplexity=min(30, (len(h) - 1) / 3), init="random", random_state=0).fit_transform(unit(h))
    figure, axes = _axes("", "", "")
    axes.set_xticks([])
    axes.set_yticks([])
    if labels is None or class_names is None or len(class_names) > 20:
        axes.scatter(*places.T, s=6, color=figures.COLORS[0])
    else:
        for label, name in enumerate(class_names):
            mine = places[labels == label]
            color = [*figures.COLORS, "#999999", "#882255"][label % 10]
            # Matplotlib leaves out a label that begins with "_".
            axes.scatter(*mine.T, s=6, color=color, label=f" {name}" if len(name) < 20 else f" {name[:19]}…")
        legend = axes.legend(
            frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=figures.INK
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return _drawn(figure)


def _neighbors(h: np.ndarray, pixels: np.ndarray) -> str:
    k = min(SHOWN, len(pixels) - 1)
    if k < 1:
        return ""
    queries = np.random.default_rng(1).permutation(len(h))[:SHOWN]
    ((_, _, found),) = nearest(h[queries], h, k + 1)
    rows = [[query, *[other for other in row if other != query][:k]] for query, row in zip(queries, found, strict=True)]
    return _sheet(pixels[np.array(rows)])


def _pairs(views: np.ndarray, chosen: np.ndarray) -> str:
    return _sheet(views[:, chosen])
