"""A user's own `keras.Model` as the encoder, by import path."""

import contextlib
import importlib
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from simclr_tf._compat import reset_uids

SCOPE = "encoder"  # before the paths of the variables, which keeps them apart from those of the projection head
# Prefixes of files that are not the user's.
LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]), "<")


def imported_encoder(path: str, image_shape: tuple[int, int, int], dtype=None) -> keras.Model:
    """Makes the encoder f that a user's function returns.

        def tiny(image_shape):
            return keras.Sequential([keras.layers.Conv2D(32, 3), keras.layers.GlobalAveragePooling2D()])

    The function is called under the run's dtype policy, and again whenever the encoder is loaded, so it must make the
    same architecture each time. For several replicas, its batch norms should be `simclr_tf.SyncBatchNormalization`, or
    those of Keras with `synchronized=True`.

    Args:
        path: Import path `module:function`.
        image_shape: Shape (H, W, C) of the images, the function's only argument.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: If there is no such function, it raises, or it does not return a model of images to vectors.
    """
    images = keras.Input(image_shape, name="images", dtype="float32")
    with _policy(dtype), keras.name_scope(SCOPE):
        # Layers without a name are numbered within the process, and checkpoints need the same names in each process.
        reset_uids()
        function = _function(path)
        with _naming(f"The encoder function {path} failed"):
            model = function(image_shape)
        if not isinstance(model, keras.Model):
            raise ValueError(f"{path} must return a keras.Model. Received: {type(model).__name__}")
        h = _called(path, model, images)
    h = keras.layers.Activation("linear", name="representation", dtype="float32")(h)
    encoder = keras.Model(images, h, name=path.replace(":", ".").replace(".", "_"))
    _check_paths(path, encoder)
    return encoder


def _function(path: str) -> Callable:
    module, _, name = path.partition(":")
    with _naming(f"The encoder {path} cannot be imported (is the folder of its module in PYTHONPATH?)"):
        found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise ValueError(f"The encoder must be a function of the images' shape. Received: {path}, {type(found)}")
    return found


def _called(path: str, model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    """The model's representations of images, if they are vectors of a known size."""
    with _naming(f"The model of {path} cannot be called with images of shape {images.shape}"):
        h = model(images)
    if not isinstance(h, keras.KerasTensor) or len(h.shape) != 2 or h.shape[1] is None:
        received = h.shape if isinstance(h, keras.KerasTensor) else type(h).__name__
        raise ValueError(
            f"The model of {path} must map images (B, H, W, C) to vectors (B, D); GlobalAveragePooling2D makes "
            f"vectors of feature maps. Received: {received}"
        )
    return h


def _check_paths(path: str, encoder: keras.Model) -> None:
    """Raises now what would otherwise fail at the first checkpoint."""
    paths = [variable.path for variable in encoder.variables]
    twice = sorted({name for name in paths if paths.count(name) > 1})
    if twice:
        raise ValueError(f"Layers of {path} need names of their own. Received more than once: {twice}")
    if not encoder.trainable_variables:
        raise ValueError(f"The model of {path} has nothing to train. Received: {len(paths)} variables, none trainable")


@contextlib.contextmanager
def _naming(complaint: str) -> Iterator[None]:
    """Reports an exception from the user's code as a ValueError: complaint, their file and line, type and message."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]
        where = f", at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
        raise ValueError(f"{complaint}{where}. Received: {type(error).__name__}: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """The message of an error, without the arguments of the call, which Keras appends, and without markup."""
    # The command line takes names in backticks for its own settings.
    message = str(error).partition("\n\nArguments received by")[0].replace("`", "'")
    return " ".join(re.sub(r"\x1b\[\d+m", "", message).split())


@contextlib.contextmanager
def _policy(dtype) -> Iterator[None]:
    """Sets Keras' default policy to `dtype` for what is built inside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
