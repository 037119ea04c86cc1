"""SimCLR as a Keras model: augmentation, networks and objective combined in a train step (paper, algorithm 1)."""

from collections.abc import Callable

import keras
import tensorflow as tf

# Imported so that Keras knows every class of this package that a saved model may contain.
from simclr_tf import networks  # noqa: F401
from simclr_tf.augment import VALIDATION_STEP, TwoViews
from simclr_tf.augment.base import to_float
from simclr_tf.distribution import num_replicas
from simclr_tf.networks.normalization import keras_norm
from simclr_tf.objectives import Contrast, nt_xent
from simclr_tf.optimizers import apply_if_finite
from simclr_tf.tasks.accumulate import gradients_in_parts
from simclr_tf.tasks.learner import Learner

_PARTS = ("encoder", "head", "views", "objective")


@keras.saving.register_keras_serializable("simclr_tf")
class SimCLR(Learner):
    """Learns representations by agreement between two views of the same image.

    It trains on batches of images (B, H, W, C), uint8 or float in [0, 1], and ignores labels. It can be saved and loaded
    like any Keras model, provided that its parts can; import `SimCLR` before loading. Under a strategy with several
    replicas, batch norm must be `SyncBatchNormalization`, or Keras' with `synchronized=True`.

    Args:
        encoder: The encoder f, from float images in [0, 1] (B, H, W, C) to representations h (B, D); any Keras model.
        head: The projection head g, from representations to projections z (B, P), such as `projection_head` returns.
        views: Augmentation that makes two views of a batch of images.
        objective: Contrastive loss, from the projections of a replica to a `Contrast`.
        accumulate: Number of parts in which a replica's images go through the networks, to save memory; the loss is over
            all of them. Batch norm is over a part.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If there are several parts, and random layers or Keras' batch norm: each image goes through the networks
            twice.

    Example:
        >>> model = SimCLR(encoder, head, TwoViews(simclr()), nt_xent)
        >>> model.compile(LARS(1.0))
        >>> model.fit(batches_of_uint8_images)
        >>> model.save("simclr.keras")
    """

    def __init__(
        self,
        encoder: keras.Model,
        head: keras.Model,
        views: TwoViews,
        objective: Callable[[tf.Tensor], Contrast] = nt_xent,
        accumulate: int = 1,
        **kwargs,
    ):
        measured = ("loss", "contrastive_accuracy", "contrastive_entropy")
        super().__init__(measured, **{"name": "simclr"} | kwargs)
        random = any(len(part.variables) > len(part.weights) for part in (encoder, head))  # the states of such layers
        if accumulate > 1 and random:
            raise ValueError(
                "`accumulate` needs an encoder without random layers such as Dropout, since each image goes through it "
                f"twice. Received: `accumulate={accumulate}`"
            )
        if accumulate > 1 and (name := keras_norm(encoder, head)):
            raise ValueError(
                "`accumulate` needs simclr_tf.SyncBatchNormalization, whose statistics move once for each image. "
                f"Received: `accumulate={accumulate}` and Keras' BatchNormalization, {name}"
            )
        self.encoder = encoder
        self.head = head
        self.views = views
        self.supports_jit = getattr(views, "supports_jit", True)  # Keras does not see the layers of the views
        self.objective = objective
        self.accumulate = accumulate
        self.built = all(getattr(part, "built", True) for part in (encoder, head, objective))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds the optimizer, whose variables must not be created on a replica.

        Keras' own takes a batch from the data and averages it over the replicas, which fails on uint8 images.

        Raises:
            ValueError: If there are several replicas and the model is not built.
        """
        if not self.built:
            if self.distribute_strategy.num_replicas_in_sync > 1:
                raise ValueError(
                    "With several replicas, call `model.build((None, H, W, C))` in the strategy's scope first. "
                    "Received: a model whose encoder, head or objective is not built"
                )
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
        elif self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def build(self, input_shape):
        """Creates the weights that the parts do not have yet, those of a learned similarity among them."""
        projections = self.head(self.encoder(keras.KerasTensor(input_shape)))
        if isinstance(self.objective, keras.Layer) and not self.objective.built:
            self.objective.build(projections.shape)

    def call(self, images, training=False):
        """Projections z of images, uint8 or float in [0, 1], without augmentation."""
        images = tf.convert_to_tensor(images)
        if not images.dtype.is_floating:
            images = to_float(images)
        return self.head(self.encoder(images, training=training), training=training)

    def train_step(self, data):
        """One step on this replica's part of the global batch; labels are ignored."""
        contrast, gradients = self.gradients(data, self.optimizer.iterations)
        finite = apply_if_finite(self.optimizer, contrast.loss, gradients, self.trainable_variables)
        return self.record(contrast, finite)

    def gradients(self, data, step) -> tuple[Contrast, list[tf.Tensor]]:
        """The `Contrast` of this replica's part of a batch in a step, and the gradients, of which the sum is applied."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        views = self.views(images, step)
        if self.accumulate > 1:
            return gradients_in_parts(self._project, self._loss, self.trainable_variables, views, self.accumulate)
        with tf.GradientTape() as tape:
            contrast, loss = self._loss(self._project(views))
        return contrast, tape.gradient(loss, self.trainable_variables)

    def _project(self, views):
        return self(views, training=True)

    def _loss(self, z) -> tuple[Contrast, tf.Tensor]:
        """What is measured, and what is differentiated: the replica's share of the loss, scaled for float16."""
        contrast = self.objective(z)
        # The optimizer sums the gradients of the replicas; the loss of the global batch is the mean of their losses.
        return contrast, self.optimizer.scale_loss(contrast.loss / num_replicas())

    def test_step(self, data):
        """The same measurements in inference mode, with the same views on every call."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.record(self.objective(self(self.views(images, VALIDATION_STEP), training=False)))

    def get_config(self):
        """The constructor's arguments, serialized."""
        parts = {name: getattr(self, name) for name in _PARTS}
        return {**super().get_config(), **keras.saving.serialize_keras_object(parts), "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        parts = keras.saving.deserialize_keras_object({name: config[name] for name in _PARTS})
        return cls(**{**config, **parts})
