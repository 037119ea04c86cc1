import itertools

import keras
import numpy as np
import pytest

from simclr_tf.networks import projection_head, up_to
from simclr_tf.networks.normalization import SyncBatchNormalization

H = np.random.default_rng(0).normal(size=(6, 12)).astype("float32")


def kinds(head, kind):
    return [layer for layer in head.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("layers", "width", "batch_norm"), list(itertools.product([1, 2, 4], [None, 5], [True, False]))
)
def test_hidden_layers(layers, width, batch_norm):
    head = projection_head("nonlinear", 12, 3, layers=layers, width=width, batch_norm=batch_norm)
    dense = kinds(head, keras.layers.Dense)
    assert [layer.units for layer in dense] == [width or 12] * layers + [3]
    assert [layer.use_bias for layer in dense] == [not batch_norm] * layers + [False]
    assert len(kinds(head, SyncBatchNormalization)) == (layers if batch_norm else 0)
    assert head(H).shape == (6, 3)


def test_without_batch_norm_it_is_the_formula():
    head = projection_head("nonlinear", 12, 3, layers=2, width=5, batch_norm=False)
    w1, b1, w2, b2, w3 = (variable.numpy() for variable in head.variables)
    expected = np.maximum(np.maximum(H @ w1 + b1, 0) @ w2 + b2, 0) @ w3
    np.testing.assert_allclose(head(H), expected, atol=1e-5)


def test_no_head_is_the_identity():
    head = projection_head("none", 12, 3)
    assert head.output_shape == (None, 12)
    np.testing.assert_array_equal(head(H), H)


@pytest.mark.parametrize(("name", "hidden"), [("linear", 0), ("nonlinear", 1)])
def test_batch_norm_after_the_last_layer_has_a_scale_but_no_offset(name, hidden):
    head = projection_head(name, 12, 3, batch_norm=False, last_batch_norm=True)
    *_, w, gamma, moving_mean, moving_variance = (variable.numpy() for variable in head.variables)
    assert (gamma.shape, moving_mean.shape, moving_variance.shape) == ((3,), (3,), (3,))
    x = H if not hidden else np.maximum(H @ head.variables[0].numpy() + head.variables[1].numpy(), 0)
    expected = (x @ w - (x @ w).mean(0)) / np.sqrt((x @ w).var(0) + 1e-5)
    np.testing.assert_allclose(head(H, training=True), expected, atol=1e-5)


def test_cut_heads():
    head = projection_head("nonlinear", 12, 3, layers=3, width=5)
    assert [up_to(head, layer).output_shape[1] for layer in (1, 2, 3, 4)] == [5, 5, 5, 3]
    np.testing.assert_array_equal(up_to(head, 4)(H), head(H))
    assert (np.asarray(up_to(head, 2)(H)) >= 0).all()
    (w,) = up_to(projection_head("linear", 12, 3), 1).variables
    assert w.shape == (12, 3)
    np.testing.assert_array_equal(up_to(projection_head("none", 12), 1)(H), H)


def test_cut_heads_share_the_weights_and_are_float32():
    head = projection_head("nonlinear", 12, 3, "mixed_bfloat16", layers=2)
    cut = up_to(head, 1)
    assert {id(variable) for variable in cut.variables} < {id(variable) for variable in head.variables}
    assert cut.output.dtype == "float32"


@pytest.mark.parametrize(
    "make",
    [
        lambda: projection_head("nonlinear", 12, layers=0),
        lambda: up_to(projection_head("nonlinear", 12), 3),
        lambda: up_to(projection_head("linear", 12), 0),
    ],
)
def test_missing_layers(make):
    with pytest.raises(ValueError, match="Received: [03]"):
        make()
