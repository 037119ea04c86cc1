"""SimCLR as a Keras model: augmentation, networks and objective joined in a train step (paper, algorithm 1)."""

from collections.abc import Callable

import keras
import tensorflow as tf

from simclr_tf.augment import TwoViews
from simclr_tf.augment.base import to_float
from simclr_tf.distribution import num_replicas
from simclr_tf.objectives import Contrast, nt_xent

_PARTS = ("encoder", "head", "views", "objective")

# No training step gets this far, so validation has views of its own, the same in every epoch.
VALIDATION_STEP = 2**31 - 1


@keras.saving.register_keras_serializable("simclr_tf")
class SimCLR(keras.Model):
    """Learns representations by agreement between two views of the same image.

    It trains on batches of images (B, H, W, C), uint8 or float in [0, 1]; labels beside them are ignored. It is saved
    and loaded like any Keras model. Under a strategy with several replicas, batch norm has to be
    `SyncBatchNormalization`, or Keras' with `synchronized=True`.

    Args:
        encoder: f, float images in [0, 1] (B, H, W, C) to representations h (B, D); any Keras model.
        head: g, representations to projections z (B, P), such as `projection_head` makes.
        views: Makes two views of a batch of images.
        objective: From the projections of a replica to a `Contrast`.
        **kwargs: Those of `keras.Model`.

    Example:
        >>> model = SimCLR(encoder, head, TwoViews(simclr()), nt_xent)
        >>> model.compile(LARS(1.0))
        >>> model.fit(batches_of_uint8_images)
    """

    def __init__(
        self,
        encoder: keras.Model,
        head: keras.Model,
        views: TwoViews,
        objective: Callable[[tf.Tensor], Contrast] = nt_xent,
        **kwargs,
    ):
        super().__init__(**{"name": "simclr"} | kwargs)
        self.encoder = encoder
        self.head = head
        self.views = views
        self.objective = objective
        self.means = {
            "loss": keras.metrics.Mean(name="loss"),
            "contrastive_accuracy": keras.metrics.Mean(name="contrastive_accuracy"),
            "contrastive_entropy": keras.metrics.Mean(name="contrastive_entropy"),
        }
        self.built = encoder.built and head.built

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means that an epoch reports, and nothing that Keras would add."""
        return list(self.means.values())

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds nothing where all is built already.

        Keras' own takes a batch to build with, and averages it over the workers: an error on uint8 images.
        """
        if not self.built:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def call(self, images, training=False):
        """Projections z of images, uint8 or floats in [0, 1], as they are."""
        images = tf.convert_to_tensor(images)
        if images.dtype == tf.uint8:
            images = to_float(images)
        return self.head(self.encoder(images, training=training), training=training)

    def train_step(self, data):
        """One step on this replica's part of the global batch: uint8 images (B, H, W, C), labels are ignored."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views = self.views(images, self.optimizer.iterations)
        with tf.GradientTape() as tape:
            contrast = self.objective(self(views, training=True))
            # The optimizer sums the replicas' gradients; the loss of the global batch is the mean of theirs.
            loss = self.optimizer.scale_loss(contrast.loss / num_replicas())
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._record(contrast)

    def test_step(self, data):
        """The same measurements in inference mode, with the same views at each call."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self._record(self.objective(self(self.views(images, VALIDATION_STEP), training=False)))

    def _record(self, contrast: Contrast) -> dict[str, tf.Tensor]:
        for metric, value in zip(self.means.values(), contrast, strict=True):
            metric.update_state(value)
        shape = [1] if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy) else []
        # Keras averages the logs of several workers along axis 0, which a scalar does not have.
        return {name: tf.reshape(metric.result(), shape) for name, metric in self.means.items()}

    def get_config(self):
        """The constructor's arguments."""
        parts = {name: getattr(self, name) for name in _PARTS}
        return {"name": self.name, **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in _PARTS}
        return cls(**{**config, **parts})
