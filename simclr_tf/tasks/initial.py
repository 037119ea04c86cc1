"""Weights to start from: those of another run, or of a Keras model."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from simclr_tf.networks.imported import SCOPE, in_one_line
from simclr_tf.training import checkpoints


def take_over(model: keras.Model, source: str | Path) -> str:
    """Gives the variables of a model the values that those of the same path and shape have in a source.

    The paths of an imported encoder may lack its scope there.

    Args:
        model: Built model with an `encoder` and a `head`.
        source: Folder of a run, an exported SavedModel, a `.keras` file, or a `.weights.h5` file of the encoder.

    Returns:
        A sentence on what was taken over and what was not.

    Raises:
        ValueError: If the source is none of these, or has nothing of that path and shape.
    """
    variables = [*model.encoder.weights, *model.head.weights]
    if str(source).endswith(".weights.h5"):
        taken = _from_weights_file(model.encoder, source)
    else:
        values = _values(Path(source))
        # Keras files, and models made elsewhere, do not have the scope of an encoder that was imported.
        values = {f"{SCOPE}/{path}": array for path, array in values.items()} | values
        taken = [v for v in variables if v.path in values and tuple(values[v.path].shape) == tuple(v.shape)]
        for variable in taken:
            variable.assign(values[variable.path])
    if not taken:
        raise ValueError(
            "`init_from` has no variable of the name and shape of one of this run's. "
            f"Received: {source}, for a model with {variables[0].path} {tuple(variables[0].shape)}"
        )
    paths = {variable.path for variable in taken}
    left = [variable.path for variable in variables if variable.path not in paths]
    return f"init_from: took over {len(taken)} of {len(variables)} variables of {source}{_named(left)}"


def _values(source: Path) -> dict[str, np.ndarray]:
    """Arrays by the paths of variables."""
    if (source / "config.json").exists():
        return checkpoints.loaded(source / "checkpoints").variables
    if (source / "saved_model.pb").exists():
        loaded = tf.saved_model.load(str(source))
        variables = [variable for signature in loaded.signatures.values() for variable in signature.variables]
        return {variable.name.split(":")[0]: variable.numpy() for variable in variables}
    if source.suffix == ".keras" and source.is_file():
        try:
            model = keras.models.load_model(source, compile=False)
        except TypeError as error:  # a class that Keras does not know
            raise ValueError(f"`init_from` cannot be loaded ({in_one_line(error)}). Received: {source}") from error
        return {variable.path: variable.numpy() for variable in model.variables}
    raise ValueError(
        "`init_from` must be the folder of a run or of a SavedModel, or a .keras or .weights.h5 file. "
        f"Received: {source}"
    )


def _from_weights_file(encoder: keras.Model, source: str | Path) -> list[keras.Variable]:
    if not Path(source).is_file():
        raise ValueError(f"`init_from` names a file that is not there. Received: {source}")
    before = [variable.numpy() for variable in encoder.weights]
    for variable in encoder.weights:
        variable.assign(np.full(variable.shape, np.nan))  # what stays so was not in the file
    encoder.load_weights(source, skip_mismatch=True)
    taken = []
    for variable, old in zip(encoder.weights, before, strict=True):
        if np.isnan(variable.numpy()).any():
            variable.assign(old)
        else:
            taken.append(variable)
    return taken


def _named(left: Sequence[str], at_most: int = 5) -> str:
    if not left:
        return ""
    more = f" and {len(left) - at_most} more" if len(left) > at_most else ""
    return f"; not there, or of another shape: {', '.join(left[:at_most])}{more}"
