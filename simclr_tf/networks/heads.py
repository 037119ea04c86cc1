"""Projection heads g: from the representation h to z, where the contrastive loss is applied (paper, section 4.2)."""

import keras

from simclr_tf.networks.normalization import SyncBatchNormalization


def _none(h, dim, hidden, dtype):
    return h


def _linear(h, dim, hidden, dtype):
    return keras.layers.Dense(dim, use_bias=False, name="projection", dtype=dtype)(h)


def _nonlinear(h, dim, hidden, dtype):
    layers, width, batch_norm = hidden
    x = h
    for name in ["hidden", *(f"hidden{number}" for number in range(2, layers + 1))]:
        x = keras.layers.Dense(width or h.shape[-1], use_bias=not batch_norm, name=name, dtype=dtype)(x)
        if batch_norm:
            x = SyncBatchNormalization(name=f"{name}_bn", dtype=dtype)(x)
        x = keras.layers.ReLU(name=f"{name}_relu", dtype=dtype)(x)
    return _linear(x, dim, hidden, dtype)


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
) -> keras.Model:
    """A projection head by name.

        none:       z = h
        linear:     z = W h
        nonlinear:  z = W2 relu(bn(W1 h)), or with more hidden layers of that kind, as in SimCLRv2
                    (https://arxiv.org/abs/2006.10029)

    Args:
        name: a key of `PROJECTIONS`.
        representation_dim: D, the dimension of h.
        projection_dim: dimension of z; without effect on "none".
        dtype: Keras dtype policy.
        layers: hidden layers of "nonlinear".
        width: their width; that of h when not given.
        batch_norm: whether they have batch norm; without, they have biases.

    Returns:
        A model of h (B, D) to z (B, projection_dim), float32 whatever the policy: the loss needs the precision.

    Raises:
        ValueError: on an unknown name, or no layers.
    """
    if name not in PROJECTIONS:
        raise ValueError(f"Expected a projection head of {sorted(PROJECTIONS)}. Received: {name}")
    if layers < 1:
        raise ValueError(f"Expected a hidden layer or more; without, the head is linear. Received: {layers}")
    h = keras.Input((representation_dim,), name="representation", dtype="float32")
    z = PROJECTIONS[name](h, projection_dim, (layers, width, batch_norm), dtype)
    z = keras.layers.Activation("linear", name="z", dtype="float32")(z)
    return keras.Model(h, z, name=f"{name}_head")


def up_to(head: keras.Model, layer: int) -> keras.Model:
    """The head cut off after one of its layers, to take the representation from there.

    Args:
        head: as made by `projection_head`.
        layer: k for the k-th hidden layer after its ReLU, counted from 1; one more than there are of these for z.

    Returns:
        A model of h (B, D) to that layer's output, float32, which shares the head's weights.

    Raises:
        ValueError: when the head has fewer layers.
    """
    ends = [part for part in head.layers if part.name.endswith("_relu") or part.name == "z"]
    if not 1 <= layer <= len(ends):
        raise ValueError(f"The projection head has layers 1 to {len(ends)}. Received: {layer}")
    cut = keras.layers.Activation("linear", name="cut", dtype="float32")(ends[layer - 1].output)
    return keras.Model(head.input, cut, name=f"{head.name}_{layer}")
