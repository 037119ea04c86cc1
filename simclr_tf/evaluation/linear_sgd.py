"""The paper's linear evaluation (appendix B.6): a linear layer trained by SGD on augmented images."""

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.augment import TwoViews, policy
from simclr_tf.config import Config, LinearSgd
from simclr_tf.data.pipeline import ordered_batches, training_batches
from simclr_tf.data.source import Split
from simclr_tf.evaluation.features import represent
from simclr_tf.evaluation.probe import Result, judge
from simclr_tf.evaluation.probing import judge_run, labels_of
from simclr_tf.progress import progress
from simclr_tf.training.engine import naming_exhaustion

# Every pair is trained at once, a linear layer each, on the same features. The paper's rate is 0.1, without decay.
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
DECAYS = (0.0, 1e-4, 1e-3)
MOMENTUM = 0.9


def run(run_dir: Path, config: Config, settings: LinearSgd) -> dict[str, Any]:
    """Judges the encoder of a run; the record is that of `probing.judge_encoder`."""
    probe = SgdProbe(settings.epochs, settings.batch_size, config.training.seed)
    return judge_run("linear_sgd", probe, run_dir, config, settings, on_images=True)


class SgdProbe:
    """Test accuracy of a linear classifier on a frozen encoder, trained by SGD on crops and flips.

    Minimizes the mean cross-entropy of softmax(W h + b) over random crops and flips of the training images, h being the
    encoder's output in inference mode, by SGD with Nesterov momentum at rate x batch / 256, as in the paper's appendices
    B.5 and B.6; these have no penalty and do not say that the rate decays. Here it decays along a cosine, with an L2
    penalty on W. Rate and penalty are those of `RATES` and `DECAYS` with the highest accuracy on the validation split, on
    images as they are. The classifier is then trained again on the training and validation splits together, and the test
    split is used once.

    No features are kept: each epoch computes those of new crops.

    Args:
        epochs: Passes over the images; the paper's are 90.
        batch_size: Images a step.
        seed: Seed of the order and of the crops.
    """

    def __init__(self, epochs: int, batch_size: int, seed: int):
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed

    def __call__(
        self, encoder: keras.Model, train: Split, validation: Split, both: Split, test: Split, num_classes: int
    ) -> Result:
        """The result of an encoder.

        Args:
            encoder: Model of float32 images in [0, 1] to float32 (B, D); not changed.
            train: Images to learn from.
            validation: Images on which rate and penalty are chosen.
            both: All of them.
            test: Images to judge on, once.
            num_classes: Number of classes.
        """
        pairs = list(itertools.product(RATES, DECAYS))
        layers = self._train(encoder, train, num_classes, pairs, "choosing rate and decay")
        scores = _scores(encoder, layers, validation)  # (K, N, classes)
        labels = labels_of(validation, "the validation split")
        accuracy = (scores.argmax(axis=2) == labels).mean(axis=1)
        rate, decay = pairs[best := int(accuracy.argmax())]
        layers = self._train(encoder, both, num_classes, [pairs[best]], "training the classifier")
        tried = {f"{rate:g}, {decay:g}": float(value) for (rate, decay), value in zip(pairs, accuracy, strict=True)}
        chosen = {"learning_rate": rate, "weight_decay": decay, "epochs": self.epochs, "batch_size": self.batch_size,
                  "validation_top1": tried}  # fmt: skip
        return judge(_scores(encoder, layers, test)[0], labels_of(test, "the test split"), len(both), chosen)

    def _train(self, encoder, split: Split, num_classes: int, pairs, doing: str) -> tuple[tf.Variable, tf.Variable]:
        """Weights (K, D, classes) and biases (K, 1, classes) of a linear layer for each pair of rate and decay."""
        batch = min(self.batch_size, len(split))
        steps = len(split) // batch
        rates = tf.constant([[[rate * batch / 256]] for rate, _ in pairs])
        decays = tf.constant([[[decay]] for _, decay in pairs])
        weights = tf.Variable(tf.zeros([len(pairs), encoder.output_shape[-1], num_classes]))
        biases = tf.Variable(tf.zeros([len(pairs), 1, num_classes]))
        velocities = [tf.Variable(tf.zeros_like(variable)) for variable in (weights, biases)]
        views = TwoViews(policy("crop,flip"), self.seed)

        @tf.function
        def learn(images, labels, number):
            h = represent(encoder, views.first(images, number))
            with tf.GradientTape() as tape:
                logits = tf.matmul(h, weights) + biases  # (K, B, classes)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    tf.broadcast_to(labels, tf.shape(logits)[:2]), logits
                )
                loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))  # each layer has its own part of it
            gradients = tape.gradient(loss, [weights, biases])
            gradients[0] += decays * weights
            angle = np.pi * tf.cast(number, tf.float32) / (steps * self.epochs)
            now = rates * 0.5 * (1.0 + tf.cos(angle))
            for variable, velocity, gradient in zip((weights, biases), velocities, gradients, strict=True):
                velocity.assign(MOMENTUM * velocity + gradient)
                variable.assign_sub(now * (gradient + MOMENTUM * velocity))

        cuts = views.cuts(1) if split.larger else None
        batches = iter(training_batches(split, batch, self.seed, labels=True, cuts=cuts))
        with naming_exhaustion(batch, "take a smaller `batch_size`"):
            for number in progress(range(steps * self.epochs), doing, steps * self.epochs):
                learn(*next(batches), tf.constant(number, tf.int64))
        return weights, biases


def _scores(encoder: keras.Model, layers: tuple[tf.Variable, tf.Variable], split: Split) -> np.ndarray:
    """Logits (K, N, classes) of the images as they are."""
    weights, biases = layers
    parts = [tf.matmul(represent(encoder, images), weights) + biases for images in ordered_batches(split, 256)]
    return tf.concat(parts, axis=1).numpy()
