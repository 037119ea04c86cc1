"""A SavedModel: for TensorFlow, TF Serving, and `keras.layers.TFSMLayer`."""

from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf.exports.served import LinearClassifier, Served
from simclr_tf.files import replacing_folder


class _Callable(Served):
    """What `tf.saved_model.load` returns: to be called with images, whose batch may be empty."""

    @tf.function
    def __call__(self, images):
        # No kernel takes a batch of no images.
        represent = super().represent
        return tf.cond(tf.shape(images)[0] > 0, lambda: represent(images), lambda: tf.zeros([0, self.dimensions]))

    def represent(self, images):
        return self(images)

    def classify(self, images):
        found = super().classify(images)
        return found | {
            "class_name": tf.gather(tf.constant(self.class_names), tf.argmax(found["probability"], axis=-1))
        }


def write_saved_model(encoder: keras.Model, folder: Path, classifier: LinearClassifier | None = None) -> None:
    """Writes a SavedModel, whole or not at all.

    `tf.saved_model.load(folder)` gives an object to call with uint8 images or with floats in [0, 1]. Its signatures are
    `serving_default` (float32 in [0, 1]) and `embed` (uint8), both to `representation`, and, with a classifier, `classify`
    (uint8), to `probability` and `class_name` besides.

    Args:
        encoder: Model of float32 images in [0, 1] to h, made outside of any strategy.
        folder: Folder to write; replaced if it exists.
        classifier: Classifier of its outputs, if there is one.
    """
    module = _Callable(encoder, classifier)
    kinds = {"serving_default": (module.embed, tf.float32)}
    kinds |= {name: (function, tf.uint8) for name, function in module.signatures.items()}
    signatures = {}
    for name, (function, dtype) in kinds.items():
        module.__call__.get_concrete_function(module.spec(dtype))
        signatures[name] = tf.function(function).get_concrete_function(module.spec(dtype))
    with replacing_folder(folder) as temporary:
        try:
            tf.saved_model.save(module, str(temporary), signatures=signatures)
        except tf.errors.OpError as error:  # such as of a full disk
            raise OSError(error.message.partition("\n")[0]) from error
