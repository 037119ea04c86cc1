"""Any `keras.Model` of the user's as an encoder, by import path."""

import contextlib
import importlib
from collections.abc import Callable, Iterator

import keras

from simclr_tf._compat import reset_uids


def imported_encoder(path: str, image_shape: tuple[int, int, int], dtype=None) -> keras.Model:
    """The encoder f that a function of the user's makes.

        def tiny(image_shape):
            return keras.Sequential([keras.layers.Conv2D(32, 3), keras.layers.GlobalAveragePooling2D()])

    The function is called under the run's dtype policy, and again whenever the encoder is loaded: it must make the
    same architecture each time. Batch normalisation is its own affair: on several replicas that has to be
    `simclr_tf.networks.normalization.SyncBatchNormalization`, or Keras' with `synchronized=True`.

    Args:
        path: `module:function`; the module is found as by `import`.
        image_shape: (H, W, C) of the images, the function's argument.
        dtype: Keras dtype policy.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: when there is no such function, or it does not return a model of images to vectors.
    """
    images = keras.Input(image_shape, name="images", dtype="float32")
    # In a scope of its own, where its layers cannot be taken for those of the projection head.
    with _policy(dtype), keras.name_scope("encoder"):
        # Layers without a name are numbered through the process; checkpoints need the same names in every process.
        reset_uids()
        model = _function(path)(image_shape)
        if not isinstance(model, keras.Model):
            raise ValueError(f"{path} must return a keras.Model. Received: {type(model).__name__}")
        h = _called(path, model, images)
    h = keras.layers.Activation("linear", name="representation", dtype="float32")(h)
    encoder = keras.Model(images, h, name=path.replace(":", ".").replace(".", "_"))
    _check_paths(path, encoder)
    return encoder


def _function(path: str) -> Callable:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(
            f"The encoder module:function could not be imported ({error}); is the module's folder in PYTHONPATH? "
            f"Received: {path}"
        ) from error
    if not callable(found):
        raise ValueError(f"The encoder must be a function of the images' shape. Received: {path}, {type(found)}")
    return found


def _called(path: str, model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """Representations of images, checked to be vectors of a known size."""
    try:
        h = model(images)
    except Exception as error:  # whatever a model may raise that was made for other images
        raise ValueError(
            f"The model of {path} cannot be called with images of shape {images.shape}. Received: {error}"
        ) from error
    if not isinstance(h, keras.KerasTensor) or len(h.shape) != 2 or h.shape[1] is None:
        received = h.shape if isinstance(h, keras.KerasTensor) else type(h).__name__
        raise ValueError(
            f"The model of {path} must map images (B, H, W, C) to vectors (B, D); GlobalAveragePooling2D makes "
            f"vectors of feature maps. Received: {received}"
        )
    return h


def _check_paths(path: str, encoder: keras.Model) -> None:
    """Refuses what a checkpoint could not tell apart, before the training rather than after its first epochs."""
    paths = [variable.path for variable in encoder.variables]
    twice = sorted({name for name in paths if paths.count(name) > 1})
    if twice:
        raise ValueError(f"Layers of {path} need names of their own. Received more than once: {twice}")
    if not encoder.trainable_variables:
        raise ValueError(f"The model of {path} has nothing to train. Received: {len(paths)} variables, none trainable")


@contextlib.contextmanager
def _policy(dtype) -> Iterator[None]:
    """Makes `dtype` Keras' policy for what is built within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
