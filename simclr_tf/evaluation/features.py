"""What the probes are given: frozen features of a split, its raw pixels, and the encoder's fingerprint."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.data.pipeline import naming_lost_images, ordered_batches
from simclr_tf.data.source import Split


@tf.function
def represent(encoder: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Uint8 images (B, H, W, C) -> representations h = f(x), float32 (B, D), with batch norm's moving statistics.

    One function serves all encoders: TensorFlow keys its traces by encoder and shape, so that the three splits of a
    data set share one graph.
    """
    return tf.cast(encoder(tf.cast(images, tf.float32) / 255.0, training=False), tf.float32)


@naming_lost_images()
def extract(encoder: keras.Model, split: Split, batch_size: int = 256) -> np.ndarray:
    """Features of every image of a split, in its order.

    Args:
        encoder: Model of float32 images in [0, 1] to float32 (B, D); not changed.
        split: N uint8 images.
        batch_size: Images per step.

    Returns:
        float32 (N, D).

    Raises:
        ValueError: If the encoder takes images of another shape, or an image can no longer be read.
    """
    expected = encoder.input_shape[1:]
    if any(side not in (None, size) for side, size in zip(expected, split.image_shape, strict=True)):
        raise ValueError(f"The encoder takes images of shape {expected}. Received: {split.image_shape}")
    features = []
    for images in ordered_batches(split, batch_size):
        # A short last batch would be a second shape, and so a second graph, for a few images.
        images = tf.pad(images, [[0, batch_size - images.shape[0]], [0, 0], [0, 0], [0, 0]])
        features.append(represent(encoder, images))
    return np.concatenate([h.numpy() for h in features])[: len(split)]


@naming_lost_images()
def pixels(split: Split) -> np.ndarray:
    """The images themselves as features, float32 (N, H * W * C) in [0, 1]: the baseline without an encoder.

    Raises:
        ValueError: If an image can no longer be read.
    """
    batches = [images.numpy() for images in ordered_batches(split, 256)]
    return np.concatenate(batches).reshape(len(split), -1).astype(np.float32) / np.float32(255)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of the path, dtype, shape and bytes of every weight, batch norm's moving statistics included."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = weight.value.numpy()
        digest.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
