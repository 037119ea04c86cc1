"""Transfer to other data: a linear probe and fine-tuning on each target, in one table (paper, section 6 and B.8)."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from simclr_tf import encoders, files
from simclr_tf.config import Config, Finetune, Transfer, split_target
from simclr_tf.data.source import Dataset, Split
from simclr_tf.evaluation.logistic import linear_probe
from simclr_tf.evaluation.probe import Result, judge
from simclr_tf.evaluation.probing import features_of, judged_splits, labels_of, open_data
from simclr_tf.places import name_of, results_folder
from simclr_tf.protocols.training import logits, start, training_settings
from simclr_tf.tasks.classify import classify

RATES = (0.01, 0.05, 0.2)  # of fine-tuning, for a batch of 256


def run(run_dir: Path, config: Config, settings: Transfer) -> dict[str, Any] | None:
    """Judges the encoder of a run on each target.

    The L2 strength of the linear probe and the learning rate of fine-tuning (of `RATES`) are chosen for each target on a
    tenth of its training images, and then all of these are learned from; no choice depends on the test images (appendix
    B.8). The trainings are kept in `transfer/`, and go on where they were.

    Returns:
        The record, also written to `transfer.json`: for each target `seed`, `batch_size`, `linear` and `finetune`, the
        latter two with the plain values of a `Result`; other targets of the same encoder stay in it. None on workers
        other than the chief.

    Raises:
        ValueError: If a target is unknown, or its images do not fit the encoder or have no labels.
        FloatingPointError: If the loss of a training is no longer finite.
    """
    strategy = start(config, settings)
    folder = results_folder(run_dir, settings.layer, config.data.judged_on, config.data) / "transfer"
    encoder = encoders.load_encoder(run_dir, settings.layer)
    path, digest = folder.with_suffix(".json"), encoders.weights_digest(encoder)
    record: dict[str, Any] = {"mode": "transfer", "encoder_digest": digest, "targets": {}}
    for target in settings.each:
        name, data_dir = split_target(target)
        dataset = open_data(name, data_dir, config)
        splits = judged_splits(dataset, 0, settings.seed)
        linear = linear_probe(features_of(encoder, splits, dataset))
        place = folder / name_of(name, data_dir)
        tuned = _finetuned(run_dir, config, settings, strategy, dataset, splits, place, digest)
        if tuned is None:  # not the chief
            continue
        record["targets"][target] = {
            "seed": settings.seed, "batch_size": settings.batch_size, "linear": linear.to_dict(),
            "finetune": tuned.to_dict(),
        }  # fmt: skip
        print(f"{target}: linear {linear.top1:.1%}, fine-tuned {tuned.top1:.1%}", flush=True)
    if not record["targets"]:
        return None
    if path.exists() and (kept := json.loads(path.read_text())).get("encoder_digest") == digest:
        record["targets"] = kept["targets"] | record["targets"]  # others, of the same encoder
    files.write_json(path, record)
    Console(markup=False).print(_table(record["targets"]))  # a target may have brackets
    print(path)
    return record


def _finetuned(
    run_dir: Path, config: Config, settings: Transfer, strategy: tf.distribute.Strategy, dataset: Dataset, splits,
    place: Path, digest: str,
) -> Result | None:  # fmt: skip
    """The result on the test images after a training on all others, at the rate that was best on the validation images."""
    train, validation, test = splits
    load = partial(encoders.load_encoder, run_dir, settings.layer)

    def tuned(rate: float, split: Split, watched: Split | None, name: str) -> tuple[keras.Model, int, bool]:
        tuning = Finetune(learning_rate=rate, epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed,
                          strategy=settings.strategy, layer=settings.layer)  # fmt: skip
        kept = place / f"{name}-rate{rate:g}-seed{settings.seed}"
        training = training_settings(config, tuning, len(split), kept, strategy.num_replicas_in_sync)
        model, began_with, chief = classify(training, strategy, split, watched, dataset.num_classes, load)
        if began_with != digest:
            raise ValueError(f"The run has been trained further meanwhile: start again. Received: {run_dir}")
        return model, training.training.epochs, chief

    tried: dict[str, float] = {}
    for rate in RATES:
        model, *_ = tuned(rate, train, validation, "finetune")
        # By every worker, since all of them make the next training.
        found = judge(logits(model, validation), labels_of(validation, dataset.name), len(train), {})
        tried[f"{rate:g}"] = found.top1
    best = max(RATES, key=lambda rate: tried[f"{rate:g}"])
    model, epochs, chief = tuned(best, dataset.train, None, "finetune-all")
    if not chief:
        return None
    chosen = {"learning_rate": best, "epochs": epochs, "validation_top1": tried}
    return judge(logits(model, test), labels_of(test, dataset.name), len(dataset.train), chosen)


def _table(targets: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Transfer: top-1 %, and its 95 % interval")
    for number, heading in enumerate(("target", "linear", "", "fine-tuned", "")):
        table.add_column(heading, justify="right" if number else "left")
    for target, row in targets.items():
        cells = []
        for how in ("linear", "finetune"):
            low, high = row[how]["interval"]
            cells += [f"{100 * row[how]['top1']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]
        table.add_row(target, *cells)
    return table
