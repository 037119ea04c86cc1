"""A ten-line Keras classifier that the engine trains: `classifier.py RUN_DIR [--resume] [--max_steps=N] [--stream]`.

With `--signal=step:8` it is sent a SIGTERM in its eighth step, with `--signal=validation:9` in the validation after its
ninth.
"""

import dataclasses
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import simclr_tf.quiet  # noqa: F401, I001
from simclr_tf.config import Hardware, Optimization, Output, Training
from simclr_tf.data.source import ArrayImages, Split, StreamImages
from simclr_tf.training import engine
from simclr_tf.training.signals import Interrupted


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that the engine asks for."""

    training: Training
    optimization: Optimization
    hardware: Hardware
    output: Output
    to_dict = dataclasses.asdict


def data():
    """60 images of 8 x 8 pixels, dark ones of class 0 and bright ones of class 1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60).astype(np.int32)
    images = (rng.integers(0, 128, (60, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels


def stream(images, labels):
    """The same images as a stream, shuffled as a function of seed and epoch."""

    def make(order):
        numbers = tf.range(len(images), dtype=tf.int64)
        if order is not None:
            numbers = tf.random.experimental.stateless_shuffle(
                numbers, tf.stack([tf.constant(order[0], tf.int64), order[1]])
            )
        pairs = tf.data.Dataset.from_tensor_slices(numbers)
        return pairs.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)))

    return Split(StreamImages(make, len(images), images.shape[1:], "classifier"))


class Signal(keras.callbacks.Callback):
    """Sends this process a SIGTERM once, where it was told to."""

    def __init__(self, where):
        super().__init__()
        self.where, _, number = (where or "").partition(":")
        self.number, self.steps = int(number or 0), 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if self.where == "step" and self.steps == self.number:
            signal.raise_signal(signal.SIGTERM)

    def on_test_batch_begin(self, batch, logs=None):
        if self.where == "validation" and self.steps == self.number:
            signal.raise_signal(signal.SIGTERM)


def main(run_dir, *words):
    options = dict(word.lstrip("-").partition("=")[::2] for word in words)
    settings = Settings(
        Training(batch_size=16, epochs=4, deterministic=True, max_steps=int(options.get("max_steps", 0)) or None),
        Optimization(learning_rate=0.1, lr_scaling="none", warmup_epochs=1),
        Hardware(),
        Output(run_dir=run_dir, resume="resume" in options, checkpoint_epochs=1),
    )
    strategy = engine.start(settings.training, settings.hardware)
    images, labels = data()
    train = stream(images, labels) if "stream" in options else Split(ArrayImages(images), labels)
    measures = {"loss": "loss {:.3f}", "accuracy": "accuracy {:.0%}", "val_loss": "val_loss {:.3f}"}
    run = engine.Run(settings, strategy, train, Split(ArrayImages(images[:20]), labels[:20]), measures, labels=True)
    with run.building():
        layers = [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
                  keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(2)]  # fmt: skip
        model = keras.Sequential(layers)
        optimizer = keras.optimizers.SGD(run.plan.rate, momentum=0.9)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    for note in run.open(model, "classifier", {}, {}):
        print(note)
    try:
        run.fit(model, [Signal(options.get("signal"))])
    except Interrupted as error:
        print(f"interrupted by {error.number}")
    run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
