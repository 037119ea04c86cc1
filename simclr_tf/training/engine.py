"""The engine: fits a Keras model to a stream of images under a strategy, logs and saves it, and continues where it was.

    strategy = start(settings.training, settings.hardware)
    run = Run(settings, strategy, train, validation, {"loss": "loss {:.3f}"})
    with run.building():
        model = ...  # compiled with an optimizer that follows `run.plan.rate`
    run.open(model, "name", texts={}, meta={})
    run.fit(model)
    run.close()

It does not know what the model learns. With several workers, all of them do the same, and the chief writes the files.
"""

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import tensorflow as tf

from simclr_tf import distribution, files
from simclr_tf._compat import is_op_determinism_enabled
from simclr_tf.config import PLACES, PLACES_OF_DATA, Hardware, Optimization, Output, Training
from simclr_tf.data.damaged import tolerating
from simclr_tf.data.pipeline import Cuts, naming_lost_images, ordered_batches, training_batches
from simclr_tf.data.source import Split
from simclr_tf.training import checkpoints, run_folder
from simclr_tf.training.callbacks import GoOn, ReleaseMemory, SaveCheckpoints, StopAfter, StopWhenAsked
from simclr_tf.training.checkpoints import Position
from simclr_tf.training.divergence import SKIPPED, Divergence
from simclr_tf.training.epoch_log import EpochLog, scalar
from simclr_tf.training.plan import Plan, make_plan
from simclr_tf.training.profile import Profile
from simclr_tf.training.signals import Stop, stopping

LESS_MEMORY = "take a smaller `batch_size` or `width`, `precision=mixed_bfloat16`, or more devices"


class _Settings(Protocol):
    """What the engine reads of a task's settings."""

    @property
    def training(self) -> Training: ...
    @property
    def optimization(self) -> Optimization: ...
    @property
    def hardware(self) -> Hardware: ...
    @property
    def output(self) -> Output: ...
    def to_dict(self) -> dict[str, dict[str, Any]]: ...


def start(training: Training, hardware: Hardware) -> tf.distribute.Strategy:
    """Seeds the initial weights, chooses the kernels and makes the strategy, before TensorFlow touches a device.

    Raises:
        ValueError: If the machine does not have what the settings need.
    """
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = distribution.make_strategy(hardware)
    if training.deterministic and distribution.on_several_gpus(strategy):
        raise ValueError(
            "`deterministic` needs `strategy=single` here: across GPUs, TensorFlow has no deterministic gradient of "
            f"batch norm. Received: {distribution.describe(strategy)}"
        )
    return strategy


def whole_step_compiled(strategy: tf.distribute.Strategy) -> bool:
    """Whether XLA should compile the whole step.

    One GPU gains from that. A CPU loses, since its convolutions are faster without, and strategies for several replicas
    cannot, even of one: their parts are compiled around the collectives. Keras does not compile deterministic steps.
    """
    single = isinstance(strategy, tf.distribute.OneDeviceStrategy)
    return single and bool(tf.config.list_physical_devices("GPU")) and not is_op_determinism_enabled()


@contextlib.contextmanager
def naming_exhaustion(batch_size: int, advice: str = LESS_MEMORY) -> Iterator[None]:
    """Raises ValueError with advice where a device runs out of memory in the block."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if re.search("No space left|quota|Too many open files", str(error)):  # TensorFlow has one class for all of them
            raise OSError(error.message.partition("\n")[0]) from error
        raise ValueError(f"A device ran out of memory: {advice}. Received: `batch_size={batch_size}`") from error


class Run:
    """One run of a training, from its plan to its end.

    Args:
        settings: Settings of the run, such as a `Config`.
        strategy: Strategy that `start` made.
        train: Images to learn from.
        validation: Images for the validation loss, if any.
        measures: Names of the logs that an epoch reports, in the order of metrics.csv, and the pattern by which a line
            shows each; `loss` is among them.
        labels: Whether the model takes (images, labels) instead of images.
        advice: How to go on after an interruption, when not with `resume`.

    Attributes:
        plan: Steps and learning rates.
        folder: Folder of the run, once it is open.
        chief: Whether this process writes files.
        whole_step_compiled: Whether XLA should compile the whole step, `jit_compile` of `keras.Model.compile`.

    Raises:
        ValueError: If the settings do not fit the images, the machine or the run that is to be continued.
    """

    def __init__(
        self, settings: _Settings, strategy: tf.distribute.Strategy, train: Split, validation: Split | None,
        measures: Mapping[str, str], labels: bool = False, advice: str = "",
    ):  # fmt: skip
        self._settings, self._strategy, self._labels, self._advice = settings, strategy, labels, advice
        self._train, self._validation, self._measures = train, validation, measures
        self.chief = distribution.is_chief(strategy)
        self.folder = Path()
        output = settings.output
        kept = Path(output.run_dir or "") / "checkpoints"
        self._there = checkpoints.listed(kept) if output.resume else {}
        self._saved = checkpoints.newest(kept) if output.resume else None
        self._images = {"count": len(train), "fingerprint": train.images.fingerprint()}
        if self._saved:
            _require_same_images(self._saved, self._images, output.run_dir)
        self.plan: Plan = make_plan(
            settings.training, settings.optimization, len(train), len(validation) if validation else 0,
            strategy.num_replicas_in_sync, *(self._saved.position if self._saved else Position(0)),
        )  # fmt: skip
        self._position = Position(self.plan.first_epoch, self.plan.first_step)
        what = {
            section: {name: value for name, value in values.items() if name not in PLACES_OF_DATA}
            for section, values in settings.to_dict().items()
            if section not in PLACES
        }
        distribution.require_agreement(strategy, f"{self._position}, {self._images}, {what}")
        self.whole_step_compiled = whole_step_compiled(strategy)

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """The scope in which the model and its optimizer are made."""
        with distribution.naming_lost_workers(self._strategy), self._strategy.scope():
            yield

    def open(self, model: keras.Model, name: str, texts: Mapping[str, str], meta: Mapping[str, Any]) -> list[str]:
        """Restores what the run has learned, and opens its folder.

        Call it once the model is built: a user's own encoder may be wrong, and then `overwrite` must delete nothing.

        Args:
            model: Compiled model, its optimizer built.
            name: Name of the run in that of the default folder.
            texts: Files to write into the folder, beside config.json and environment.json.
            meta: JSON values to save with each checkpoint; a run can only be continued with those that it began with.

        Returns:
            Notes on the run that is continued, one sentence each.

        Raises:
            ValueError: If the checkpoint does not fit the model or `meta`, or the folder is not the run's to use.
        """
        training, output, plan = self._settings.training, self._settings.output, self.plan
        if self._saved:
            for what, here in meta.items():
                if (there := self._saved.meta.get(what, here)) != here:
                    raise ValueError(
                        f"A run can only be continued with the {what} that it began with, {there}: delete its folder, "
                        f"{output.run_dir}, to begin anew. Received: {here}"
                    )
            checkpoints.restore([*model.weights, *model.optimizer.variables], self._saved.variables)
        if not self.chief:
            return []
        self.folder = run_folder.open_run_dir(output.run_dir, name, output.overwrite, output.resume)
        if output.resume and checkpoints.listed(self.folder / "checkpoints").keys() != self._there.keys():
            files.release(self.folder)
            raise ValueError(f"Another process went on with this run meanwhile: start again. Received: {self.folder}")
        files.write_json(self.folder / "config.json", self._settings.to_dict())
        files.write_json(self.folder / "environment.json", run_folder.environment())
        for path, text in texts.items():
            files.write_text(self.folder / path, text)
        self.log = EpochLog(
            self.folder, self._measures, training.batch_size, self.plan.rate, training.epochs,
            None if sys.stdout.isatty() else sys.stdout, self._done, plan.first_epoch,
        )  # fmt: skip
        meta = {**meta, "images": self._images, "best": self._saved.meta.get("best") if self._saved else None}
        self._save = SaveCheckpoints(
            self.folder / "checkpoints", output, plan.steps_per_epoch, self._position, meta, training.full_size_from
        )
        return list(self._saved.skipped) if self._saved else []

    @property
    def _done(self) -> int:
        """Steps done before this process."""
        return self._position.total_steps(self.plan.steps_per_epoch)

    def fit(
        self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback] = (), cuts: Cuts | None = None,
        validation_cuts: Cuts | None = None,
    ) -> None:  # fmt: skip
        """Trains to the last epoch, or for `max_steps`.

        Args:
            model: Model that was given to `open`.
            callbacks: Callbacks of the task, run by every worker.
            cuts: Boxes to cut out of the original images, if that is what the model learns from.
            validation_cuts: The same for the validation loss.

        Raises:
            ValueError: If a device runs out of memory, or images are gone.
            FloatingPointError: If the loss is no longer finite.
            ConnectionError: If another worker is lost.
            FileNotFoundError: If the folder of the run is gone.
            Interrupted: After the step in which SIGINT, SIGTERM, SIGUSR1 or SIGHUP came, once the run is saved.
        """
        training, plan = self._settings.training, self.plan
        left = (training.max_steps or sys.maxsize) - self._done
        complete = plan.first_epoch >= training.epochs
        if left <= 0 or complete:
            if self.chief:
                why = "the run is complete" if complete else f"the run has taken max_steps={training.max_steps}"
                print(f"note     {why}: nothing left to train", flush=True)
            return
        if self.chief:
            (self.folder / run_folder.DIVERGED).unlink(missing_ok=True)  # of a process before
        means = (self._saved.meta.get("means") if self._saved else None) or {}
        diverged = Divergence(
            self._train, training.batch_size, training.seed, self._labels, plan.steps_per_epoch,
            self._settings.output.on_nan == "skip", self.folder if self.chief else None, self._position,
            means.get(SKIPPED, [0.0])[0], cuts,
        )  # fmt: skip
        limit = self._settings.output.bad_files
        self._reading: dict[str, Any] = {"labels": self._labels, "cuts": cuts, "damaged": tolerating(self._train, limit),
                         "data_service": self._settings.hardware.data_service}  # fmt: skip
        self._validating: dict[str, Any] = {"labels": self._labels, "cuts": validation_cuts}
        if self._validation:
            self._validating["damaged"] = tolerating(self._validation, limit)
        # Callbacks that end an epoch early come before those that save, and the one that may end the process is last.
        profiles = [Profile(self.folder)] if self.chief and self._settings.output.profile else []
        callbacks = [*profiles, GoOn(means), *callbacks, diverged, *([self.log] if self.chief else []), ReleaseMemory()]
        if training.max_steps:
            callbacks.append(StopAfter(left))
        folder = self.folder if self.chief else self._settings.output.run_dir
        advice = self._advice or (
            f"continue from the newest checkpoint with `run_dir={folder}` `resume`"
            if folder
            else "see what the chief says"
        )
        with (
            naming_exhaustion(training.batch_size), self._given_back(model), stopping(self.chief) as stop,
            self._naming_failures(stop, advice),
        ):  # fmt: skip
            if self.chief:
                callbacks += [self._save, StopWhenAsked(stop, self._save, advice)]
            self._fit(model, callbacks)
            for profile in profiles:
                profile.finish()
            if self.chief:
                self._save.finish()
            if stop.number is not None and distribution.num_workers(self._strategy) == 1:  # since the last step
                raise stop.now(advice)

    def _fit(self, model: keras.Model, callbacks: list[keras.callbacks.Callback]) -> None:
        """The rest of the epoch in which the run is, then the epochs after it."""
        (epoch, step), steps, last = self._position, self.plan.steps_per_epoch, self._settings.training.epochs
        if step == steps:
            self._end_epoch(model, epoch, callbacks)
        elif step:
            self._fit_epochs(model, callbacks, epoch, epoch + 1, step)
        if not model.stop_training and (first := epoch + bool(step)) < last:
            self._fit_epochs(model, callbacks, first, last)

    def _fit_epochs(
        self, model: keras.Model, callbacks: list[keras.callbacks.Callback], first: int, last: int, step: int = 0
    ) -> None:
        training, plan = self._settings.training, self.plan
        train = partial(training_batches, self._train, training.batch_size, training.seed, first, step, **self._reading)
        model.fit(
            self._strategy.distribute_datasets_from_function(train),
            steps_per_epoch=plan.steps_per_epoch - step,
            epochs=last,
            initial_epoch=first,
            validation_data=self._validation_batches(),
            validation_steps=self._validation_steps,
            callbacks=callbacks,
            shuffle=False,  # the stream is shuffled already
            verbose=int(self.chief and sys.stdout.isatty()),
        )

    def _end_epoch(self, model: keras.Model, epoch: int, callbacks: list[keras.callbacks.Callback]) -> None:
        """The end of an epoch whose steps are all done, as `fit` makes it."""
        everything = keras.callbacks.CallbackList(callbacks, model=model)
        model.stop_training = False
        everything.on_train_begin()
        everything.on_epoch_begin(epoch)
        logs = dict(self._saved.meta["logs"]) if self._saved else {}
        if batches := self._validation_batches():
            found = model.evaluate(
                batches, steps=self._validation_steps, callbacks=everything, return_dict=True, verbose=0
            )
            logs |= {f"val_{name}": value for name, value in found.items()}
        everything.on_epoch_end(epoch, logs)
        if epoch + 1 == self._settings.training.epochs:
            everything.on_train_end(logs)

    def _validation_batches(self) -> Any:
        if not self._validation or not self.plan.validation_batch:
            return None
        batches = partial(ordered_batches, self._validation, self.plan.validation_batch, True, **self._validating)
        return self._strategy.distribute_datasets_from_function(batches)

    @property
    def _validation_steps(self) -> int | None:
        batch = self.plan.validation_batch
        return self.plan.validation_images // batch if batch else None

    @contextlib.contextmanager
    def _given_back(self, model: keras.Model) -> Iterator[None]:
        """Gives the folder back after an exception, too, so that another process can go on with the run.

        Where the input has failed, what was learned before is saved.
        """
        try:
            yield
        except BaseException as error:
            if self.chief:
                if isinstance(error, ValueError | OSError) and distribution.num_workers(self._strategy) == 1:
                    done = self._save.position.total_steps(self.plan.steps_per_epoch)
                    with contextlib.suppress(Exception):
                        if int(scalar(model.optimizer.iterations)) == done:  # the failing step has not begun
                            self._save.finish()
                if isinstance(error, FloatingPointError) and not (self.folder / run_folder.DIVERGED).exists():
                    files.write_json(self.folder / run_folder.DIVERGED, {"advice": str(error).replace("`", "")})
                self._save.close()
                files.release(self.folder)
            raise

    @contextlib.contextmanager
    def _naming_failures(self, stop: Stop, advice: str) -> Iterator[None]:
        try:
            with distribution.naming_lost_workers(self._strategy), naming_lost_images():
                yield
        except distribution.LostWorkerError as error:
            if stop.number is None:
                raise
            raise stop.now(advice) from error  # the chief ended at the same signal, and has saved

    def close(self) -> None:
        """Waits for the other workers and gives the folder back; raises ConnectionError if one of them is lost."""
        distribution.wait_for_workers(self._strategy)
        if self.chief:
            files.release(self.folder)


def _require_same_images(saved: checkpoints.Checkpoint, images: Mapping[str, Any], folder: str | None) -> None:
    """Raises ValueError where a run would continue on other images than it began with."""
    before = saved.meta.get("images", images)  # runs of version 0.1 did not say
    if before != images:
        there, here = (f"{each['count']} images, digest {each['fingerprint'][:12]}" for each in (before, images))
        raise ValueError(
            f"A run can only be continued on the images that it began with, {there} to train on: name these, or delete "
            f"its folder, {folder}, to begin anew. Received: {here}"
        )
