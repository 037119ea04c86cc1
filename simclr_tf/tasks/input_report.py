"""Is the input or the step the bottleneck? `python train.py --input_report` measures each alone; nothing is kept."""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from simclr_tf import distribution, preflight
from simclr_tf.config import Config
from simclr_tf.data.damaged import tolerating
from simclr_tf.data.pipeline import naming_lost_images, training_batches
from simclr_tf.data.source import EncodedImages, Split
from simclr_tf.tasks.pretrain import compiled_model, images_of, require_parts
from simclr_tf.training import engine
from simclr_tf.training.plan import make_plan

SECONDS = 10.0  # that the input is measured for, and the step at least
AHEAD = 1.2  # how much faster the input should be: on a CPU, it shares the processors with the step


def input_report(config: Config, seconds: float = SECONDS) -> str:
    """Measures images a second of the input alone and of the train step alone, on this machine.

    With several workers, start it on one of them without TF_CONFIG: each reads and computes its share.

    Args:
        config: Settings of the run.
        seconds: How long to measure the input; the step is measured for about as long, and for at least three steps.

    Returns:
        A line about each, and what they mean.

    Raises:
        ValueError: If the settings do not fit the data or the machine.
    """
    preflight.check(config)
    with naming_lost_images(), engine.naming_exhaustion(config.training.batch_size):
        return _report(config, seconds)


def _report(config: Config, seconds: float) -> str:
    strategy = engine.start(config.training, config.hardware)
    if config.training.precision == "auto":
        config = config.replace("training", precision=distribution.best_precision(strategy)[0])
    training = config.training
    require_parts(training, strategy.num_replicas_in_sync)
    _, train, _ = images_of(config)
    plan = make_plan(training, config.optimization, len(train), 0, strategy.num_replicas_in_sync)
    with strategy.scope():
        model = compiled_model(config, train.image_shape, plan.rate, engine.whole_step_compiled(strategy))
    smallest = min(training.sides, default=None)  # where a step is quickest, and the input must be
    if smallest:
        model.views.resize(smallest)
    cuts = model.views.cuts() if train.larger else None
    service = config.hardware.data_service
    damaged = tolerating(train, config.output.bad_files)
    batches = iter(
        training_batches(train, training.batch_size, training.seed, cuts=cuts, damaged=damaged, data_service=service)
    )
    first = next(batches)
    read = _rate(lambda: next(batches), training.batch_size, seconds)
    share = first[: training.batch_size // strategy.num_replicas_in_sync]
    repeated = strategy.distribute_datasets_from_function(lambda context: tf.data.Dataset.from_tensors(share).repeat())
    clock = _Clock()
    fit = partial(model.fit, repeated, shuffle=False, verbose=0, callbacks=[clock])
    fit(steps_per_epoch=1)  # which traces and compiles
    steps = 3
    fit(steps_per_epoch=steps)
    if clock.seconds < seconds:
        steps = max(steps, round(steps * seconds / clock.seconds))
        fit(steps_per_epoch=steps)
    computed = steps * training.batch_size / clock.seconds
    side = train.image_shape[0]
    what = (
        f"two views of {side} x {side} pixels, cut out of the originals"
        if cuts
        else f"images of {side} x {side} pixels"
    )
    return "\n".join([
        f"input    {read:.0f} images/s alone: {what}, {f'by {service}' if service else f'{os.cpu_count()} processors'}",
        f"step     {computed:.0f} images/s alone: {distribution.describe(strategy)}, {training.precision}"
        + (f", views of {smallest} pixels" if smallest else ""),
        f"verdict  {verdict(read / computed, train)}",
    ])  # fmt: skip


def verdict(ratio: float, train: Split) -> str:
    """What it means that the input is `ratio` times as fast as the step, and what to do."""
    if ratio >= AHEAD:
        return f"the step is the bottleneck: the input is {ratio:.1f} times as fast, and needs nothing"
    advice = ["use more processors, or more workers, each of which reads its share only"]
    if isinstance(train.images, EncodedImages):
        advice.append("shrink large files by python -m simclr_tf.data.convert FOLDER RECORDS --max_side=...")
        advice.append("let other machines decode, by --data_service=...")
    return f"the input is the bottleneck, {ratio:.2f} times as fast as the step: {'; or '.join(advice)}"


def _rate(do: Callable[[], Any], images: int, seconds: float) -> float:
    do()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or count < 3:
        do()
        count += 1
    return count * images / (time.perf_counter() - start)


class _Clock(keras.callbacks.Callback):
    """Seconds of an epoch's steps. `fit` itself may return later: the thread that tunes its input sleeps for a while."""

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self._begin
