"""Projection heads g: from the representation h to z, to which the contrastive loss is applied (paper, section 4.2)."""

import keras

from simclr_tf.networks.normalization import SyncBatchNormalization


def _none(h, dim, hidden, last_batch_norm, dtype):
    return h


def _linear(h, dim, hidden, last_batch_norm, dtype):
    z = keras.layers.Dense(dim, use_bias=False, name="projection", dtype=dtype)(h)
    return SyncBatchNormalization(center=False, name="projection_bn", dtype=dtype)(z) if last_batch_norm else z


def _nonlinear(h, dim, hidden, last_batch_norm, dtype):
    layers, width, batch_norm = hidden
    x = h
    for name in ["hidden", *(f"hidden{number}" for number in range(2, layers + 1))]:
        x = keras.layers.Dense(width or h.shape[-1], use_bias=not batch_norm, name=name, dtype=dtype)(x)
        if batch_norm:
            x = SyncBatchNormalization(name=f"{name}_bn", dtype=dtype)(x)
        x = keras.layers.ReLU(name=f"{name}_relu", dtype=dtype)(x)
    return _linear(x, dim, hidden, last_batch_norm, dtype)


PROJECTIONS = {"none": _none, "linear": _linear, "nonlinear": _nonlinear}


def projection_head(
    name: str,
    representation_dim: int,
    projection_dim: int = 128,
    dtype=None,
    *,
    layers: int = 1,
    width: int | None = None,
    batch_norm: bool = True,
    last_batch_norm: bool = False,
) -> keras.Model:
    """Makes a projection head by its name.

        none:       z = h
        linear:     z = W h
        nonlinear:  z = W2 relu(bn(W1 h)), or deeper as in SimCLRv2 (https://arxiv.org/abs/2006.10029)

    Args:
        name: Key of `PROJECTIONS`.
        representation_dim: Dimension D of h.
        projection_dim: Dimension of z; "none" ignores it.
        dtype: Keras dtype policy of the layers.
        layers: Number of hidden layers of "nonlinear".
        width: Units of each hidden layer; D by default.
        batch_norm: Whether hidden layers have a batch norm, as in SimCLR's code but not in the paper's equation; without it
            they have biases.
        last_batch_norm: Whether a batch norm without offset follows the last matrix, as in SimCLR's code
            (tf2/model.py, `ProjectionHead`) but not in the paper's equation; "none" ignores it.

    Returns:
        A model of h (B, D) to z (B, projection_dim), always float32 because the loss needs the precision.

    Raises:
        ValueError: If `name` is unknown or `layers` is less than 1.
    """
    if name not in PROJECTIONS:
        raise ValueError(f"Expected a projection head of {sorted(PROJECTIONS)}. Received: {name}")
    if layers < 1:
        raise ValueError(f'`layers` must be at least 1; the head without hidden layers is "linear". Received: {layers}')
    h = keras.Input((representation_dim,), name="representation", dtype="float32")
    z = PROJECTIONS[name](h, projection_dim, (layers, width, batch_norm), last_batch_norm, dtype)
    z = keras.layers.Activation("linear", name="z", dtype="float32")(z)
    return keras.Model(h, z, name=f"{name}_head")


def up_to(head: keras.Model, layer: int) -> keras.Model:
    """Cuts a head off after one of its layers, whose output serves as the representation.

    Args:
        head: Model made by `projection_head`.
        layer: Number k of a hidden layer, from 1, for its output after the ReLU; one more than the last of them for z.

    Returns:
        A model of h (B, D) to that layer's output, float32, which shares the head's weights.

    Raises:
        ValueError: If the head has fewer layers.
    """
    ends = [part for part in head.layers if part.name.endswith("_relu") or part.name == "z"]
    if not 1 <= layer <= len(ends):
        raise ValueError(f"The projection head has layers 1 to {len(ends)}. Received: {layer}")
    cut = keras.layers.Activation("linear", name="cut", dtype="float32")(ends[layer - 1].output)
    return keras.Model(head.input, cut, name=f"{head.name}_{layer}")
