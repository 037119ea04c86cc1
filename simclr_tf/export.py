"""The encoder as a SavedModel that needs TensorFlow only."""

import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf.augment.base import to_float


class ExportedEncoder(tf.Module):
    """Images in, representations out, with the preprocessing inside.

    Args:
        encoder: a model of float32 images in [0, 1] to h, made outside of any strategy.
    """

    def __init__(self, encoder: keras.Model):
        super().__init__(name="encoder")
        self._encoder = encoder
        # What a SavedModel keeps is what hangs on the module, and Keras' own tracking is not TensorFlow's.
        self._variables = [variable.value for variable in encoder.variables]
        self.image_shape = tuple(encoder.input_shape[1:])

    @tf.function
    def __call__(self, images):
        """Representations of images.

        Args:
            images: (B, H, W, C) of any B, uint8 or float32 in [0, 1], of the size that the encoder was trained on.

        Returns:
            h, float32 (B, D).
        """
        return tf.cast(self._encoder(to_float(images), training=False), tf.float32)

    def signature(self, dtype: tf.DType):
        """A serving signature for images of one dtype: `images` in, `representation` out."""
        spec = tf.TensorSpec([None, *self.image_shape], dtype, name="images")

        @tf.function(input_signature=[spec])
        def serve(images):
            return {"representation": self(images)}

        return serve


def export_encoder(encoder: keras.Model, folder: Path) -> Path:
    """Writes a SavedModel, whole or not at all.

    `tf.saved_model.load(folder)` gives an object to call with uint8 images or with floats in [0, 1]; its signatures
    are `serving_default` (float32) and `serving_uint8`.

    Args:
        encoder: a model of float32 images in [0, 1] to h, made outside of any strategy.
        folder: where to; replaced if it exists.

    Returns:
        The folder.
    """
    module = ExportedEncoder(encoder)
    signatures = {"serving_default": module.signature(tf.float32), "serving_uint8": module.signature(tf.uint8)}
    for dtype in (tf.float32, tf.uint8):
        module.__call__.get_concrete_function(tf.TensorSpec([None, *module.image_shape], dtype, name="images"))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
