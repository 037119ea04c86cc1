"""The training of a classifier: from a pretrained encoder (fine-tuning), or from scratch (supervised)."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from simclr_tf import distribution
from simclr_tf.augment import TwoViews, make_views
from simclr_tf.augment.base import to_float
from simclr_tf.config import Config
from simclr_tf.data.source import Split
from simclr_tf.distribution import num_replicas
from simclr_tf.encoders import weights_digest
from simclr_tf.optimizers import apply_if_finite, prepared
from simclr_tf.optimizers.sgd import CoupledSGD
from simclr_tf.tasks.learner import Learner
from simclr_tf.training import engine

MEASURES = {
    "loss": "loss {:.4f}", "accuracy": "accuracy {:.1%}", "val_loss": "val_loss {:.4f}",
    "val_accuracy": "val_accuracy {:.1%}",
}  # fmt: skip


class Classifier(Learner):
    """An encoder and a linear layer on its representations, trained by cross-entropy on one view of each image.

    It trains on batches of images (B, H, W, C), uint8 or float in [0, 1], and labels, int (B,).

    Args:
        encoder: Model of float images in [0, 1], (B, H, W, C), to representations (B, D).
        num_classes: Number of classes.
        views: Augmentation, whose first view is learned from.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(self, encoder: keras.Model, num_classes: int, views: TwoViews, **kwargs):
        super().__init__(("loss", "accuracy"), **{"name": "classifier"} | kwargs)
        self.encoder, self.views = encoder, views
        # Zeros, as in SimCLR's code (`zero_init_logits_layer`): the first steps do not disturb the encoder.
        self.classify = keras.layers.Dense(num_classes, kernel_initializer="zeros", name="logits", dtype="float32")
        self.classify.build(encoder.output_shape)
        self.built = True

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing: the model and its optimizer are built already."""

    def call(self, images, training=False):
        """Logits (B, num_classes) of images, uint8 or float in [0, 1], without augmentation."""
        return self.classify(self.encoder(to_float(tf.convert_to_tensor(images)), training=training))

    def train_step(self, data):
        """One step on this replica's part of the global batch."""
        measured, gradients = self.gradients(data, self.optimizer.iterations)
        finite = apply_if_finite(self.optimizer, measured[0], gradients, self.trainable_variables)
        return self.record(measured, finite)

    def gradients(self, data, step) -> tuple[tuple[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
        """Loss and accuracy of this replica's part of a batch in a step, and the gradients, of which the sum is applied."""
        images, labels = data
        views = self.views.first(images, step)
        with tf.GradientTape() as tape:
            logits = self(views, training=True)
            measured = _measured(logits, labels)
            loss = self.optimizer.scale_loss(measured[0] / num_replicas())
        return measured, tape.gradient(loss, self.trainable_variables)

    def test_step(self, data):
        """The same measurements in inference mode, without augmentation."""
        images, labels = data
        return self.record(_measured(self(images, training=False), labels))


def _measured(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropy and accuracy."""
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    hits = tf.cast(tf.argmax(logits, axis=1, output_type=labels.dtype) == labels, tf.float32)
    return loss, tf.reduce_mean(hits)


def classify(
    config: Config, strategy: tf.distribute.Strategy, train: Split, validation: Split | None, num_classes: int,
    make_encoder: Callable[[], keras.Model],
) -> tuple[keras.Model, str, bool]:  # fmt: skip
    """Trains a classifier, or goes on with what its folder holds.

    The optimizer is SGD with Nesterov momentum, as in the paper's fine-tuning (appendix B.5).

    Args:
        config: Settings of the training: views, optimization, training, and the folder in `output.run_dir`.
        strategy: Strategy that `engine.start` made.
        train: Labeled images to learn from.
        validation: Labeled images for the validation loss, if any.
        num_classes: Number of classes.
        make_encoder: Function that makes the encoder to start from, called in the scope of the strategy.

    Returns:
        The trained `Classifier`, the digest of the encoder that it began with, and whether this process is the one to
        judge it and write files.

    Raises:
        ValueError: If the folder holds a training with other settings or from another encoder, or these do not fit the
            images.
        FloatingPointError: When the loss is no longer finite.
    """
    folder = config.output.run_dir
    if different := config.difference(str(folder)):
        name, before, now = different
        raise ValueError(
            f"{folder} holds a training with `{name}={before}`: delete it to train again. Received: `{name}={now}`"
        )
    run = engine.Run(config, strategy, train, validation, MEASURES, True, "the same command goes on")
    with run.building():
        views = make_views(**dataclasses.asdict(config.augmentation), seed=config.training.seed)
        encoder = make_encoder()
        digest, model = weights_digest(encoder), Classifier(encoder, num_classes, views)
        settings = config.optimization
        optimizer = CoupledSGD(run.plan.rate, settings.momentum, l2=settings.weight_decay, nesterov=True)
        optimizer = prepared(optimizer, model.trainable_variables, config.training.precision)
        model.compile(optimizer, jit_compile=run.whole_step_compiled)
        meta = {"image_shape": list(train.image_shape), "classes": num_classes, "encoder": digest}
        notes = run.open(model, "classifier", {}, meta)
    if run.chief:
        notes = [*distribution.notes(strategy, config.hardware), *notes]
        print(*(f"note     {note}" for note in notes), f"run      {run.folder}", sep="\n", flush=True)
    run.fit(model, cuts=views.cuts(1) if train.larger else None)
    run.close()
    return model, digest, run.chief
