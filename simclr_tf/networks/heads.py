"""Projection heads g: from the representation h to z, where the contrastive loss is applied (paper, section 4.2)."""

import keras

from simclr_tf.networks.normalization import SyncBatchNormalization


def _none(h, dim, dtype):
    return h


def _linear(h, dim, dtype):
    return keras.layers.Dense(dim, use_bias=False, name="projection", dtype=dtype)(h)


def _nonlinear(h, dim, dtype):
    x = keras.layers.Dense(h.shape[-1], use_bias=False, name="hidden", dtype=dtype)(h)
    x = SyncBatchNormalization(name="hidden_bn", dtype=dtype)(x)
    x = keras.layers.ReLU(name="hidden_relu", dtype=dtype)(x)
    return _linear(x, dim, dtype)


PROJECTIONS = {"none": _none, "linear": _linear, "nonlinear": _nonlinear}


def projection_head(name: str, representation_dim: int, projection_dim: int = 128, dtype=None) -> keras.Model:
    """A projection head by name.

        none:       z = h
        linear:     z = W h
        nonlinear:  z = W2 relu(bn(W1 h)), with a hidden layer as wide as h

    Args:
        name: a key of `PROJECTIONS`.
        representation_dim: D, the dimension of h.
        projection_dim: dimension of z; without effect on "none".
        dtype: Keras dtype policy.

    Returns:
        A model of h (B, D) to z (B, projection_dim), float32 whatever the policy: the loss needs the precision.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in PROJECTIONS:
        raise ValueError(f"Expected a projection head of {sorted(PROJECTIONS)}. Received: {name}")
    h = keras.Input((representation_dim,), name="representation", dtype="float32")
    z = PROJECTIONS[name](h, projection_dim, dtype)
    z = keras.layers.Activation("linear", name="z", dtype="float32")(z)
    return keras.Model(h, z, name=f"{name}_head")
