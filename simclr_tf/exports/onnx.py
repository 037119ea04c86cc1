"""An ONNX file: for onnxruntime and other readers of ONNX."""

import json
from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf import quiet
from simclr_tf.exports.served import LinearClassifier, Served
from simclr_tf.files import replacing

OPSET = 17


def write_onnx(encoder: keras.Model, path: Path, classifier: LinearClassifier | None = None) -> None:
    """Writes a graph of uint8 images (B, H, W, C) to `representation` and, with a classifier, `probability`.

    The names of the classes are in its metadata, `class_names`, as JSON.

    Args:
        encoder: Model of float32 images in [0, 1] to h.
        path: File to write, `.onnx`.
        classifier: Classifier of its outputs, if there is one.
    """
    import tf2onnx

    served = Served(encoder, classifier)
    *_, function = served.signatures.values()  # `classify` has all that `embed` has
    with quiet.without_noise():
        model, _ = tf2onnx.convert.from_function(
            tf.function(function), input_signature=[served.spec(tf.uint8)], opset=OPSET
        )
    if served.class_names:
        model.metadata_props.add(key="class_names", value=json.dumps(served.class_names))
    with replacing(path) as file:
        file.write(model.SerializeToString())
