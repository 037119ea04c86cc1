"""A .keras file of stock layers: to continue with in Keras."""

import tempfile
from pathlib import Path

import keras

from simclr_tf.exports.served import of_stock_layers
from simclr_tf.files import replacing


def write_keras(encoder: keras.Model, path: Path) -> None:
    """Writes a model of images in [0, 255], uint8 or float, to h.

    Args:
        encoder: Model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D).
        path: File to write, `.keras`.
    """
    images = keras.Input(encoder.input_shape[1:], name="images", dtype="float32")
    scaled = keras.layers.Rescaling(1 / 255, name="scale", dtype="float32")(images)
    model = keras.Model(images, of_stock_layers(encoder)(scaled), name=encoder.name)
    with tempfile.TemporaryDirectory() as folder, replacing(path) as file:
        made = Path(folder) / "model.keras"  # Keras insists on the ending
        model.save(made)
        file.write(made.read_bytes())
