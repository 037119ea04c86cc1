"""A pretraining run, from its settings to the exported encoder."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from simclr_tf import data, distribution, encoders, figures, preflight
from simclr_tf.augment import TwoViews, make_views
from simclr_tf.augment.base import to_bytes
from simclr_tf.config import Config, Training
from simclr_tf.data.pipeline import Cuts, naming_lost_images, read_batch
from simclr_tf.data.source import Dataset, Split, readable
from simclr_tf.data.splits import learned_from
from simclr_tf.inspect import curves
from simclr_tf.inspect.summary import summary
from simclr_tf.networks.normalization import keras_norm
from simclr_tf.objectives import make_objective
from simclr_tf.optimizers import make_optimizer
from simclr_tf.tasks import monitor
from simclr_tf.tasks.initial import take_over
from simclr_tf.tasks.resolutions import Resolutions
from simclr_tf.tasks.simclr import SimCLR
from simclr_tf.training import checkpoints, engine
from simclr_tf.training.epoch_log import EpochLog

MEASURES = {
    "loss": "loss {:.4f}",
    "val_loss": "val_loss {:.4f}",
    "contrastive_accuracy": "contrastive accuracy {:.1%}",
    "contrastive_entropy": "entropy {:.2f}",
}


def pretrain(config: Config) -> Path:
    """Pretrains an encoder.

    Args:
        config: Settings of the run.

    Returns:
        The run's folder; on workers other than the chief, which write nothing, the current one.

    Raises:
        ValueError: On settings that do not fit the data or the machine; before anything is written.
        FloatingPointError: When the loss is no longer finite.
    """
    preflight.check(config)
    config = _as_it_began(config)
    strategy = engine.start(config.training, config.hardware)
    notes = []
    if config.training.precision == "auto":  # fixed from here on, even if the run is continued on another machine
        precision, reason = distribution.best_precision(strategy)
        notes = [f"precision={precision}: {reason}"]
        config = config.replace("training", precision=precision)
    dataset, train, validation = images_of(config)
    sides = config.training.sides
    if sides and (sides[-1], sides[-1]) != train.image_shape[:2]:
        raise ValueError(
            f"`resolutions` must end with the side of the images, which are {train.image_shape[0]} x "
            f"{train.image_shape[1]} pixels. Received: {config.training.resolutions}"
        )

    judge = None
    if config.data.judge_dataset:
        size = data.size_for(config.data.judge_dataset, config.data.image_size)
        judge = data.load(*config.data.judged_on, size, config.training.seed)
        if judge.train.labels is None or (judge.test or judge.train).labels is None:
            raise ValueError(
                "`judge_dataset` must have labels, as of class folders. "
                f"Received: {config.data.judge_data_dir or config.data.judge_dataset}, without any"
            )
        if judge.train.image_shape != train.image_shape:
            raise ValueError(
                f"`judge_dataset` must have images of {train.image_shape[0]} x {train.image_shape[1]} pixels, like those "
                f"to learn from. Received: {judge.train.image_shape[0]} x {judge.train.image_shape[1]}"
            )

    require_parts(config.training, strategy.num_replicas_in_sync)
    every = config.output.monitor_every
    run = engine.Run(config, strategy, train, validation, MEASURES | (monitor.MEASURES if every else {}))
    with run.building():
        model = compiled_model(config, train.image_shape, run.plan.rate, run.whole_step_compiled)
        if sides:
            model.views.resize(sides[-1])  # refuses views that cannot be resized, before anything is written
        if config.training.init_from and not (run.plan.first_epoch or run.plan.first_step):
            notes.append(take_over(model, config.training.init_from))
        name = f"{config.data.dataset.partition(':')[0]}-{config.network.encoder.replace(':', '.')}"
        notes += run.open(model, name, {"flags.txt": config.flagfile()}, {"image_shape": list(train.image_shape)})

    folder, cuts = run.folder, model.views.cuts() if train.larger else None
    if cuts:
        notes.append("views are cut out of the original images, which are larger than image_size")
    elif train.larger:
        notes.append(
            "views are made of the center squares of the images, since the augmentations do not begin with crop"
        )
    if run.chief:
        notes = [
            *distribution.notes(strategy, config.hardware),
            *dataset.notes,
            *(judge.notes if judge else ()),
            *notes,
        ]
        print(summary(config, dataset, run.plan, model), *(f"note     {note}" for note in notes), sep="\n")
        print(f"run      {folder}", flush=True)
        _show_views(model.views, train, cuts, run.log, folder)
    callbacks: list[keras.callbacks.Callback] = [Resolutions(sides, config.training.epochs)] if sides else []
    if every and run.chief:
        watched, known = (
            (judge.test or judge.train, judge.train) if judge else (validation or dataset.test or train, train)
        )
        stop = config.output.on_collapse == "stop"
        temperature, bad = config.objective.temperature, config.output.bad_files
        boxes = cuts if watched.larger else None  # those to judge on may be small while those to learn from are not
        callbacks.append(monitor.Monitor(watched, known, every, stop, temperature, folder, boxes, bad))
    run.fit(model, callbacks, cuts, cuts)
    if run.chief:
        if (folder / "metrics.csv").exists():  # an epoch is complete
            curves.loss_curves(folder / "metrics.csv", folder / "plots" / "loss.png")
        exported = folder / "encoder"
        model_file = exported / "saved_model.pb"
        saved = next(iter(checkpoints.listed(folder / "checkpoints").values()), None)
        # Of a run that had nothing left to train, the export may have a classifier in it by now.
        if not saved or not model_file.exists() or model_file.stat().st_mtime < saved.stat().st_mtime:
            encoders.export_run(folder)
        print(f"done     encoder in {exported}, loss curve in {folder / 'plots' / 'loss.png'}", flush=True)
    run.close()
    return folder


def _as_it_began(config: Config) -> Config:
    """The settings of a run that is continued, with the precision that the machine decided on when it began.

    Raises:
        ValueError: If they are not those of the run.
    """
    path = Path(config.output.run_dir or "") / "config.json"
    if not config.output.resume or not path.exists():
        return config
    if different := config.difference(path.parent, ["max_steps"]):
        name, before, now = different
        raise ValueError(
            f"`resume` continues a run with `{name}={before}`, which must stay as it was. Received: `{name}={now}`"
        )
    return config.replace("training", precision=Config.load(path).training.precision)


def require_parts(training: Training, replicas: int) -> None:
    """Raises ValueError where a device cannot take its images in as many parts as the settings say."""
    share, parts = training.batch_size // replicas, training.accumulate
    if share % parts or share < 2 * parts:
        raise ValueError(
            f"`accumulate` must divide the {share} images of a device, with two or more in each part. Received: {parts}"
        )


def images_of(config: Config) -> tuple[Dataset, Split, Split | None]:
    """The data set of a run, the images that it learns from, and those held out for the validation loss, if any.

    Raises:
        ValueError: If they cannot be read.
    """
    settings, seed = config.data, config.training.seed
    dataset = data.load(settings.dataset, settings.data_dir, settings.image_size, seed)
    return dataset, *learned_from(dataset.train, settings, seed)


def build_model(config: Config, image_shape: tuple[int, int, int]) -> SimCLR:
    """The SimCLR model of the settings, its weights drawn from Keras' seed; for any image size if resolutions rise."""
    network, precision = config.network, config.training.precision
    encoder = encoders.build_encoder(network, image_shape, precision, smallest=min(config.training.sides, default=None))
    head = encoders.build_head(network, encoder.output_shape[-1], precision)
    views = make_views(**dataclasses.asdict(config.augmentation), seed=config.training.seed)
    objective = make_objective(config.objective)
    objective.build(head.output_shape)  # a learned similarity has a weight, which the optimizer must know
    if config.output.on_nan == "skip" and (name := keras_norm(encoder)):
        raise ValueError(
            "`on_nan=skip` needs simclr_tf.SyncBatchNormalization in the encoder, which keeps its statistics where a step "
            f"is skipped. Received: Keras' BatchNormalization, {name}"
        )
    return SimCLR(encoder, head, views, objective, config.training.accumulate)


def compiled_model(
    config: Config, image_shape: tuple[int, int, int], rate: Any, whole_step_compiled: bool | str = "auto"
) -> SimCLR:
    """The model of the settings with its optimizer, built.

    Args:
        config: Settings of the run, its precision decided.
        image_shape: Shape of an image, (H, W, C).
        rate: Learning rate or schedule, as `make_optimizer` takes it.
        whole_step_compiled: `jit_compile` of `keras.Model.compile`.
    """
    model = build_model(config, image_shape)
    optimizer = make_optimizer(config.optimization, rate, model.trainable_variables, config.training.precision)
    model.compile(optimizer, jit_compile=whole_step_compiled)
    return model


@naming_lost_images()
def _show_views(views: TwoViews, train: Split, cuts: Cuts | None, log: EpochLog, folder: Path, count: int = 12) -> None:
    """A picture of what the encoder will see: originals, and the two views of each."""
    shown, originals = readable(train, np.arange(min(count, len(train))))
    if not len(shown):
        return
    views = TwoViews.from_config(views.get_config() | {"compiled": False})  # to compile them takes seconds
    both = to_bytes(views(read_batch(train, shown, 0, cuts), 0))
    rows = [originals, *np.split(both, 2)]
    figures.image_grid(rows, ["image", "view 1", "view 2"], folder / "plots" / "views.png")
    log.write_image("views", figures.tile(rows))
