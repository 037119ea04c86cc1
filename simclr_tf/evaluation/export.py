"""The encoder of a run, and a classifier on it, in files for other programs, with a card that says what they are."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import keras
import numpy as np

from simclr_tf import data, encoders, files
from simclr_tf.config import Config, Export
from simclr_tf.data.decode import CENTER
from simclr_tf.data.source import readable
from simclr_tf.evaluation.probing import classifier_file
from simclr_tf.exports.keras_file import write_keras
from simclr_tf.exports.litert import run_litert, write_litert
from simclr_tf.exports.onnx import write_onnx
from simclr_tf.exports.saved_model import write_saved_model
from simclr_tf.exports.served import LinearClassifier
from simclr_tf.training import checkpoints, run_folder

EXAMPLES = 200  # images that the ranges of 8-bit integers are chosen by
COMPARED = 500  # images that a converted file is compared on
CARD = Path(__file__).with_name("model_card.md")


class Taken(NamedTuple):
    """What is exported."""

    encoder: keras.Model
    classifier: LinearClassifier | None
    images: Callable[[str, int], np.ndarray]  # a split's name and a number -> that many of its images, uint8


def run(run_dir: Path, config: Config, settings: Export) -> list[Path]:
    """Writes each format into the run's folder, and MODEL_CARD.md; prints and returns their paths.

    A linear probe that was trained on this encoder becomes the signature `classify`; without one, the classifier that
    a protocol trained together with it. A layer of the head makes files of its own, `encoder_layer<k>`.

    Raises:
        ValueError: If the run has no checkpoint.
    """
    saved = checkpoints.loaded(run_dir / "checkpoints")
    # In float32, whatever the run computed in: where it is loaded, the hardware may not support a lower precision.
    encoder = encoders.load_encoder(run_dir, settings.layer, "float32", saved)
    digest = encoders.weights_digest(encoder)
    suffix = f"_layer{settings.layer}" if settings.layer else ""
    classifier, record = _probe(run_dir, suffix.removeprefix("_"), digest)
    if classifier is None:
        classifier, record = _fine_tuned(run_dir, saved, digest)
    images, measured = _some_of(config, settings.data_dir or config.data.data_dir), {}
    written = {name: f"encoder{suffix}{FORMATS[name][1]}" for name in settings.each}
    if settings.reads_data:
        images("test", 1)  # data that is not there is reported before anything is written
    for name, file in written.items():
        path = run_dir / file
        FORMATS[name][0](Taken(encoder, classifier, images), path)
        if name.startswith("litert"):
            measured[name] = agreement(encoder, classifier, path, images("test", COMPARED))
            print(f"{path}: {measured[name]}", flush=True)
        else:
            print(path, flush=True)
    card = run_dir / f"MODEL_CARD{suffix}.md"
    files.write_text(card, _card(run_dir, config, saved, encoder, digest, classifier, record, written, measured))
    print(card)
    return [*(run_dir / file for file in written.values()), card]


def _int8(taken: Taken, path: Path) -> None:
    write_litert(taken.encoder, path, taken.classifier, taken.images("train", EXAMPLES))


# From a format's name to how it is written, and the ending of its file.
FORMATS: dict[str, tuple[Callable[[Taken, Path], Any], str]] = {
    "saved_model": (lambda taken, path: write_saved_model(taken.encoder, path, taken.classifier), ""),
    "keras": (lambda taken, path: write_keras(taken.encoder, path), ".keras"),
    "onnx": (lambda taken, path: write_onnx(taken.encoder, path, taken.classifier), ".onnx"),
    "litert": (lambda taken, path: write_litert(taken.encoder, path, taken.classifier), ".tflite"),
    "litert_int8": (_int8, "_int8.tflite"),
}


def _probe(run_dir: Path, layer: str, digest: str) -> tuple[LinearClassifier | None, dict[str, Any]]:
    """The newest linear probe on this encoder, that on the run's own data first; and the record of its judgment."""
    folder = run_dir / "evaluation" / layer
    others = (path for path in folder.glob("*/") if not re.fullmatch(r"layer\d+", path.name))
    kept = [path for path in map(classifier_file, others) if path.exists()]
    for path in [classifier_file(folder), *sorted(kept, key=lambda path: -path.stat().st_mtime)]:
        if not path.exists():
            continue
        try:
            with np.load(path, allow_pickle=False) as found:
                if str(found["encoder_digest"]) == digest:
                    names = [str(name) for name in found["class_names"]]
                    record = json.loads(path.with_name("linear.json").read_text())
                    arrays = {key: found[key] for key in ("mean", "scale", "weights", "bias")}
                    return LinearClassifier(**arrays, class_names=names), record
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise ValueError(
                f"The classifier of a linear probe is damaged: delete it, or judge again. Received: {path}"
            ) from error
    return None, {}


def _fine_tuned(
    run_dir: Path, saved: checkpoints.Checkpoint, digest: str
) -> tuple[LinearClassifier | None, dict[str, Any]]:
    """The classifier that a protocol trained together with this encoder, and the record of its judgment."""
    for path in (run_dir / "finetune.json", run_dir / "supervised.json"):
        record = json.loads(path.read_text()) if path.exists() else {}
        if record.get("encoder_digest_after") == digest:
            weights, bias = (saved.variables[f"logits/{name}"] for name in ("kernel", "bias"))
            unchanged = np.zeros(len(weights), np.float32), np.ones(len(weights), np.float32)  # h, as it is
            return LinearClassifier(*unchanged, weights, bias, record["class_names"]), record
    return None, {}


def _some_of(config: Config, data_dir: str | None) -> Callable[[str, int], np.ndarray]:
    """A function that gives some images of a split of the run's data, which is read when they are first needed."""
    loaded: list[data.Dataset] = []

    def images(split: str, count: int) -> np.ndarray:
        if not loaded:
            loaded.append(data.load(config.data.dataset, data_dir, config.data.image_size, config.training.seed))
        chosen = (split == "test" and loaded[0].test) or loaded[0].train
        rows = np.random.default_rng(0).permutation(len(chosen))[:count]
        return readable(chosen, np.sort(rows))[1]

    return images


def agreement(encoder: keras.Model, classifier: LinearClassifier | None, path: Path, images: np.ndarray) -> str:
    """How well a LiteRT file agrees with the encoder that it was made of, in words.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D).
        classifier: Classifier of its outputs, if the file has one.
        path: File to compare.
        images: uint8 (N, H, W, C).
    """
    expected = encoder.predict(images / np.float32(255), verbose=0)
    found = run_litert(path, images, "classify" if classifier else "embed")
    h = found["representation"]
    lengths = np.linalg.norm(h, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(np.mean(np.sum(h * expected, axis=1) / np.maximum(lengths, 1e-12)))
    words = f"on {len(images)} images, cosine similarity to float32 {cosine:.5f}"
    if classifier:
        classes = classifier.logits(expected).argmax(axis=1)
        words += f", the same class for {np.mean(classes == found['probability'].argmax(axis=1)):.1%}"
    return words


def _trained(saved: checkpoints.Checkpoint, epochs: int) -> str:
    """How long a checkpoint has been trained, in words."""
    if saved.epoch == epochs:
        return f"{epochs} epochs"
    step = saved.position.step
    return f"{saved.epoch} of {epochs} epochs" + (f" and {step} step{'s' * (step > 1)}" if step else "")


def _card(
    run_dir: Path, config: Config, saved: checkpoints.Checkpoint, encoder: keras.Model, digest: str,
    classifier: LinearClassifier | None, judged: dict[str, Any], written: dict[str, str], measured: dict[str, str],
) -> str:  # fmt: skip
    """The text of MODEL_CARD.md; it reports measurements of these weights only."""
    paths = [*run_dir.glob("*.json"), *sorted((run_dir / "evaluation").rglob("*.json"))]
    records = [json.loads(path.read_text()) for path in paths
               if path.stem in ("finetune", "knn", "linear", "linear_sgd", "supervised")]  # fmt: skip
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    settings = config.replace("data", data_dir=None, judge_data_dir=None).to_dict()
    del settings["output"], settings["hardware"]
    return environment.from_string(CARD.read_text()).render(
        name=run_folder.title(run_dir), config=config, trained=_trained(saved, config.training.epochs),
        classes=saved.meta.get("classes", 0),  # that a protocol's training has learned
        settings=json.dumps(settings, indent=2),
        shape=encoder.input_shape[1:], side=round((encoder.input_shape[1] or 0) / CENTER),
        dimensions=encoder.output_shape[-1], parameters=encoder.count_params(),
        digest=digest, classifier=classifier, judged=judged, written=written, measured=measured,
        records=[record for record in records if record["encoder_digest_after"] == digest],
    )  # fmt: skip
