"""Batch norm of an encoder that no longer learns, moved into the convolutions before it."""

from collections import Counter

import keras
import numpy as np

from simclr_tf._compat import calls_of
from simclr_tf.networks.convolution import Conv2D
from simclr_tf.networks.normalization import SyncBatchNormalization


class _Passed(keras.layers.Layer):
    """What is left of a batch norm; takes whatever it was called with."""

    def call(self, x, training=False, mask=None):
        return x


def folded(model: keras.Model) -> keras.Model:
    """The same function with fewer operations, where a batch norm follows a linear convolution or dense layer.

        gamma (W x + b - mean) / sqrt(variance + epsilon) + beta = W' x + b'
        W' = W gamma / sqrt(variance + epsilon),  b' = beta + (b - mean) gamma / sqrt(variance + epsilon)

    At inference it saves a pass over memory for each folded batch norm. It is not meant to be trained.

    Args:
        model: Functional model; not changed.

    Returns:
        A copy, or the model itself where nothing can be folded, as in a model that is not functional.
    """
    pairs = _pairs(model)
    if not pairs:
        return model
    norms = {id(norm) for norm in pairs.values()}

    def clone(layer: keras.Layer) -> keras.Layer:
        if id(layer) in norms:
            return _Passed(name=layer.name, dtype=layer.dtype_policy)
        settings = layer.get_config()
        if layer in pairs:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    copy = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if layer in pairs:
            copy.get_layer(layer.name).set_weights(_weights(layer, pairs[layer]))
        elif layer.weights and id(layer) not in norms:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def is_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a model whose layers and their calls are known: Sequential or functional."""
    return isinstance(layer, keras.Sequential) or type(layer).__name__ == "Functional"


def _pairs(model: keras.Model) -> dict[keras.Layer, keras.Layer]:
    """Layers with a kernel and no activation whose output goes into a batch norm and nowhere else, and that norm."""
    if not is_graph(model):
        return {}
    calls = Counter(id(layer) for layer, _ in calls_of(model))
    kinds = (Conv2D, keras.layers.Conv2D, keras.layers.Dense)
    sources = {
        id(layer.output): layer
        for layer in model.layers
        if type(layer) in kinds and layer.activation is keras.activations.linear and calls[id(layer)] == 1
    }
    readers: dict[int, list[keras.Layer]] = {}
    for layer, read in calls_of(model):
        for tensor in read:
            readers.setdefault(id(tensor), []).append(layer)
    ends = {id(tensor) for tensor in keras.tree.flatten(model.outputs)}
    return {
        source: readers[tensor][0]
        for tensor, source in sources.items()
        if tensor not in ends
        and len(readers.get(tensor, [])) == 1
        and isinstance(readers[tensor][0], (SyncBatchNormalization, keras.layers.BatchNormalization))
        and getattr(readers[tensor][0], "axis", -1) in (-1, 3)
        and calls[id(readers[tensor][0])] == 1
    }


def _weights(layer: keras.Layer, norm: keras.Layer) -> list[np.ndarray]:
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    scale = (1.0 if norm.gamma is None else np.asarray(norm.gamma)) / np.sqrt(variance + norm.epsilon)
    bias = np.asarray(layer.bias) if layer.use_bias else 0.0
    offset = getattr(norm, "beta", None)
    return [np.asarray(layer.kernel) * scale, (bias - mean) * scale + (0.0 if offset is None else np.asarray(offset))]
