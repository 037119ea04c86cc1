"""What every format holds: an encoder, and perhaps a classifier on it, as functions of images, preprocessing inside."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.augment.base import to_float
from simclr_tf.networks.convolution import Conv2D
from simclr_tf.networks.normalization import SyncBatchNormalization


class LinearClassifier(NamedTuple):
    """softmax((h - mean) scale weights + bias), and what its classes are called.

    Mean and scale are not folded into the weights: in 8-bit integers, that would leave a difference of large numbers.

    Fields:
        mean: float32 (D,).
        scale: float32 (D,).
        weights: float32 (D, classes).
        bias: float32 (classes,).
        class_names: The names.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    class_names: Sequence[str]

    def logits(self, h):
        """Of float32 (B, D), an array or a tensor, to (B, classes)."""
        return ((h - self.mean) * self.scale) @ self.weights + self.bias


class Served(tf.Module):
    """An encoder and a classifier as functions of images.

    Args:
        encoder: Model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D), made outside of any strategy.
        classifier: Classifier of its outputs, if there is one.
    """

    def __init__(self, encoder: keras.Model, classifier: LinearClassifier | None = None):
        super().__init__(name="encoder")
        self._encoder = encoder
        # A SavedModel keeps the variables that are attributes of the module; Keras' own tracking is not TensorFlow's.
        self._variables = [variable.value for variable in encoder.variables]
        self.dimensions = encoder.output_shape[-1]
        self._classifier = classifier
        self.class_names = list(classifier.class_names) if classifier else []

    def spec(self, dtype) -> tf.TensorSpec:
        """Images of any number, uint8 or float32 in [0, 1]."""
        return tf.TensorSpec([None, *self._encoder.input_shape[1:]], dtype, name="images")

    def represent(self, images):
        """Images (B, H, W, C), uint8 or float32 in [0, 1], B at least 1, to h, float32 (B, D)."""
        return tf.cast(self._encoder(to_float(images), training=False), tf.float32)

    def embed(self, images) -> dict[str, tf.Tensor]:
        """`represent` by name: `representation`."""
        return {"representation": self.represent(images)}

    def classify(self, images) -> dict[str, tf.Tensor]:
        """Images as in `represent` to `representation`, (B, D), and `probability`, (B, classes)."""
        if self._classifier is None:
            raise ValueError("There is no classifier. Received: an encoder alone")
        h = self.represent(images)
        return {"representation": h, "probability": tf.nn.softmax(self._classifier.logits(h))}

    @property
    def signatures(self) -> dict:
        """The functions by name: `embed`, and `classify` if there is a classifier."""
        return {"embed": self.embed} | ({"classify": self.classify} if self.class_names else {})


def of_stock_layers(encoder: keras.Model) -> keras.Model:
    """The same function, with Keras' own layers in place of ours, so that Keras alone can load it."""

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, Conv2D):
            return keras.layers.Conv2D.from_config(layer.get_config())
        if not isinstance(layer, SyncBatchNormalization):
            return layer.__class__.from_config(layer.get_config())
        return keras.layers.BatchNormalization(
            momentum=layer.momentum,
            epsilon=layer.epsilon,
            center=layer.center,
            name=layer.name,
            dtype=layer.dtype_policy,
        )

    copy = keras.models.clone_model(encoder, clone_function=clone, recursive=True)
    for mine, theirs in zip(copy.variables, encoder.variables, strict=True):
        mine.assign(theirs)
    return copy
