"""The story of a pretraining run, top to bottom, and how to get its encoder back."""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf import data, distribution
from simclr_tf.augment import TwoViews, make_views
from simclr_tf.config import Config, Hardware, Network, Output
from simclr_tf.data.dataset import Split, hold_out
from simclr_tf.data.pipeline import ordered_batches, training_batches
from simclr_tf.export import export_encoder
from simclr_tf.memory import naming_lack_of_memory
from simclr_tf.model import SimCLR
from simclr_tf.networks import make_encoder, projection_head, up_to
from simclr_tf.objectives import make_objective
from simclr_tf.optimizers import make_optimizer
from simclr_tf.plan import Plan, make_plan
from simclr_tf.runs import checkpoints, plots, run_dir
from simclr_tf.runs.callbacks import SaveCheckpoints, StopAfter
from simclr_tf.runs.epoch_log import EpochLog
from simclr_tf.summary import summary


def pretrain(config: Config, flagfile: str = "") -> Path:
    """Pretrains an encoder.

    Args:
        config: everything that defines the run.
        flagfile: the command line that spells it, kept with the run.

    Returns:
        The run's folder; on workers other than the chief, which write nothing, the current one.

    Raises:
        ValueError: on settings that do not go with the data or the machine; before anything is written.
        FloatingPointError: when the loss is no longer finite.
    """
    keras.utils.set_random_seed(config.training.seed)
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = distribution.make_strategy(config.hardware)
    if config.training.deterministic and distribution.on_several_gpus(strategy):
        raise ValueError(
            "--deterministic needs --strategy=single here: across GPUs, TensorFlow has no deterministic gradient of "
            f"batch norm. Received: {distribution.describe(strategy)}"
        )
    chief = distribution.is_chief(strategy)
    dataset = data.load(config.data.dataset, config.data.data_dir, config.data.image_size, config.training.seed)
    train, validation = hold_out(dataset.train, config.data.validation_fraction, config.training.seed)
    output, name = config.output, f"{config.data.dataset}-{config.network.encoder.replace(':', '.')}"

    saved = checkpoints.newest(Path(output.run_dir or "") / "checkpoints") if output.resume else None
    plan = make_plan(config, len(train), len(validation), strategy.num_replicas_in_sync, saved.epoch if saved else 0)
    what = dataclasses.replace(config, hardware=Hardware(), output=Output())
    distribution.require_agreement(strategy, f"epoch {plan.first_epoch}, {len(train)} images, {what}")
    with distribution.naming_lost_workers(strategy), strategy.scope():
        model = build_model(config, train.image_shape)
        precision = config.training.precision
        optimizer = make_optimizer(config.optimization, plan.rate, model.trainable_variables, precision)
        # One GPU gains from XLA for the whole step. A CPU loses, its convolutions being faster without, and several
        # replicas cannot: their parts are compiled around the collectives.
        gpu = strategy.num_replicas_in_sync == 1 and bool(tf.config.list_physical_devices("GPU"))
        model.compile(optimizer, jit_compile=gpu)
        if saved:
            _resume(model, saved, plan, config.training.max_steps)
    # Not before: an encoder of the user's may be wrong, and --overwrite should delete nothing for it.
    folder = run_dir.open_run_dir(output.run_dir, name, output.overwrite, output.resume) if chief else Path()
    if not chief:
        _fit(model, config, plan, train, validation, [])
        distribution.wait_for_workers(strategy)
        return folder

    run_dir.write_json(folder / "config.json", config.to_dict())
    run_dir.write_text(folder / "flags.txt", flagfile)
    run_dir.write_json(folder / "environment.json", run_dir.environment())
    notes = (*dataset.notes, *(saved.skipped if saved else ()))
    print(summary(config, dataset, plan, model, strategy), *(f"note     {note}" for note in notes), sep="\n")
    print(f"run      {folder}", flush=True)
    log = EpochLog(
        folder, config.training.batch_size, plan.rate, config.training.epochs, interactive=sys.stdout.isatty(),
        first_step=plan.first_epoch * plan.steps_per_epoch, first_epoch=plan.first_epoch,
    )  # fmt: skip
    _show_views(model.views, train, log, folder)
    meta = {"image_shape": list(train.image_shape)}
    save = SaveCheckpoints(folder / "checkpoints", config.output.checkpoint_epochs, meta)
    _fit(model, config, plan, train, validation, [log, save])
    plots.loss_curves(folder / "metrics.csv", folder / "plots" / "loss.png")
    exported = export_run(folder)
    distribution.wait_for_workers(strategy)
    print(f"done     encoder in {exported}, loss curve in {folder / 'plots' / 'loss.png'}", flush=True)
    return folder


def build_encoder(network: Network, image_shape: tuple[int, int, int], precision: str = "float32") -> keras.Model:
    """The encoder that the settings name: float images in [0, 1] to h."""
    return make_encoder(network.encoder, image_shape, network.width, network.stem, dtype=precision)


def build_head(network: Network, representation_dim: int, precision: str = "float32") -> keras.Model:
    """The projection head that the settings name: h to z."""
    return projection_head(
        network.projection,
        representation_dim,
        network.projection_dim,
        precision,
        layers=network.projection_layers,
        width=network.projection_width,
        batch_norm=network.projection_bn,
    )


def build_model(config: Config, image_shape: tuple[int, int, int]) -> SimCLR:
    """The SimCLR model that the settings name, its initial weights drawn from Keras' seed."""
    encoder = build_encoder(config.network, image_shape, config.training.precision)
    head = build_head(config.network, encoder.output_shape[-1], config.training.precision)
    views = make_views(**dataclasses.asdict(config.augmentation), seed=config.training.seed)
    objective = make_objective(config.objective)
    objective.build(head.output_shape)  # a learned similarity has a weight, which the optimizer must know
    return SimCLR(encoder, head, views, objective)


def load_encoder(folder: str | Path, layer: int = 0) -> keras.Model:
    """The pretrained encoder of a run, from its newest checkpoint.

    Args:
        folder: of the run.
        layer: 0 for h, or k for the k-th layer of the projection head as in `networks.up_to`.

    Raises:
        ValueError: when the folder holds no run or no checkpoint, or the head has no such layer.
    """
    encoder, saved = _encoder_of(Path(folder), layer)
    paths = {variable.path for variable in encoder.variables}
    checkpoints.restore(encoder.variables, {k: v for k, v in saved.variables.items() if k in paths})
    return encoder


def random_encoder(folder: str | Path, layer: int = 0) -> keras.Model:
    """The encoder of a run as it was before training: same architecture, same initial weights.

    Args and raises: as `load_encoder`.
    """
    return _encoder_of(Path(folder), layer)[0]


def export_run(folder: str | Path, layer: int = 0) -> Path:
    """Writes the pretrained encoder of a run as a SavedModel into the run's folder, and returns its path.

    It is `encoder/`, and `encoder_layer<k>/` for a layer of the head.

    Args and raises: as `load_encoder`.
    """
    return export_encoder(load_encoder(folder, layer), Path(folder) / f"encoder{f'_layer{layer}' if layer else ''}")


def _encoder_of(folder: Path, layer: int = 0) -> tuple[keras.Model, checkpoints.Checkpoint]:
    config = Config.load(folder / "config.json")
    saved = checkpoints.newest(folder / "checkpoints")
    if saved is None:
        raise ValueError(f"The run has no checkpoint yet. Received: {folder}")
    keras.utils.set_random_seed(config.training.seed)
    encoder = build_encoder(config.network, tuple(saved.meta["image_shape"]), config.training.precision)
    if layer:
        head = build_head(config.network, encoder.output_shape[-1], config.training.precision)
        encoder = keras.Model(encoder.input, up_to(head, layer)(encoder.output), name=f"{encoder.name}_{head.name}")
    return encoder, saved


def _resume(model: SimCLR, saved: checkpoints.Checkpoint, plan: Plan, max_steps: int | None) -> None:
    step = saved.meta["step"]
    if step != saved.epoch * plan.steps_per_epoch and not (max_steps and step >= max_steps):
        raise ValueError(
            "Only whole epochs can be continued, and this run was ended by --max_steps within one. "
            f"Received: {saved.path}, saved at step {step} of {plan.steps_per_epoch} an epoch"
        )
    checkpoints.restore([*model.weights, *model.optimizer.variables], saved.variables)


def _fit(model: SimCLR, config: Config, plan: Plan, train: Split, validation: Split, callbacks: list) -> None:
    training, batch = config.training, plan.validation_batch
    left = (training.max_steps or sys.maxsize) - plan.first_epoch * plan.steps_per_epoch
    if left <= 0 or plan.first_epoch >= training.epochs:
        print("note     the run is complete: nothing left to train", flush=True)
        return
    if training.max_steps:
        callbacks = [*callbacks, StopAfter(left)]
    shares = model.distribute_strategy.distribute_datasets_from_function
    with distribution.naming_lost_workers(model.distribute_strategy), naming_lack_of_memory(training.batch_size):
        model.fit(
            shares(partial(training_batches, train, training.batch_size, training.seed, plan.first_epoch)),
            steps_per_epoch=plan.steps_per_epoch,
            epochs=training.epochs,
            initial_epoch=plan.first_epoch,
            validation_data=shares(partial(ordered_batches, validation, batch, True)) if batch else None,
            validation_steps=len(validation) // batch if batch else None,
            callbacks=callbacks,
            shuffle=False,  # the stream is shuffled already
            verbose=1 if callbacks and sys.stdout.isatty() else 0,
        )


def _show_views(views: TwoViews, train: Split, log: EpochLog, folder: Path, count: int = 12) -> None:
    """A picture of what the encoder will see: originals, and the two views of each."""
    originals = train.take(np.arange(min(count, len(train)))).array()
    both = np.asarray(views(tf.constant(originals), 0) * 255.0).round().astype(np.uint8)
    rows = [originals, *np.split(both, 2)]
    plots.image_grid(rows, ["image", "view 1", "view 2"], folder / "plots" / "views.png")
    log.write_images("views", plots.tile(rows), step=0)
