"""A LiteRT (TensorFlow Lite) file: for phones and small computers; in float32, or with 8-bit weights and activations."""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf import quiet
from simclr_tf.exports.served import LinearClassifier, Served
from simclr_tf.files import replacing

BATCH = 32  # images at once: the interpreter keeps all activations of a batch


def write_litert(
    encoder: keras.Model, path: Path, classifier: LinearClassifier | None = None, examples: np.ndarray | None = None
) -> None:
    """Writes a file with the signatures `embed` and, with a classifier, `classify`, of uint8 images of any number.

    Args:
        encoder: Model of float32 images in [0, 1] to h.
        path: File to write, `.tflite`.
        classifier: Classifier of its outputs, if there is one.
        examples: uint8 images (N, H, W, C), to choose the ranges of 8-bit integers by; float32 without them.
    """
    if classifier and examples is not None:
        classifier = _coarse(classifier, encoder.predict(examples / np.float32(255), verbose=0))
    served = Served(encoder, classifier)
    signatures = {
        name: tf.function(function).get_concrete_function(served.spec(tf.uint8))
        for name, function in served.signatures.items()
    }
    with tempfile.TemporaryDirectory() as folder, quiet.without_noise():
        tf.saved_model.save(served, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        if examples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                (name, {"images": image[None]}) for image in examples for name in signatures
            )
        with warnings.catch_warnings():
            # TensorFlow's own interpreter finds the ranges, and warns that users should not.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            content = converter.convert()
    with replacing(path) as file:
        file.write(content)


def _coarse(classifier: LinearClassifier, h: np.ndarray) -> LinearClassifier:
    """The classifier without the dimensions that vary by less than one step of an 8-bit h, where rounding would decide."""
    step = np.ptp(h) / 255
    return classifier._replace(scale=np.where(classifier.scale * step < 1, classifier.scale, np.float32(0)))


def run_litert(path: Path, images: np.ndarray, signature: str = "embed") -> dict[str, np.ndarray]:
    """What a signature of a file makes of uint8 images (B, H, W, C), by ai-edge-litert's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet.without_noise():
        runner = Interpreter(model_path=str(path)).get_signature_runner(signature)
        parts = [runner(images=images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
