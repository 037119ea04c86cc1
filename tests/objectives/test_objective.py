"""Tests of the objective: NumPy's values, finite differences' gradients, invariances, precision, and the layer."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import config
from simclr_tf.config import pretraining
from simclr_tf.objectives import LOSSES, SIMILARITIES, Objective, make_objective, nt_xent
from simclr_tf.tasks.pretrain import build_model
from simclr_tf.tasks.simclr import SimCLR
from simclr_tf.training import checkpoints
from tests import references

every_loss = pytest.mark.parametrize("loss", LOSSES)
every_similarity = pytest.mark.parametrize("similarity", SIMILARITIES)


def made(*args, dim=5, **kwargs):
    """An objective, its matrix, if any, being no identity."""
    objective = Objective(*args, dtype="float64", **kwargs)
    objective.build((None, dim))
    if objective.matrix is not None:
        objective.matrix.assign(np.eye(dim) + 0.3 * np.random.default_rng(1).normal(size=(dim, dim)))
    return objective


def matrix_of(objective):
    return None if objective.matrix is None else objective.matrix.numpy().astype(np.float64)


@every_loss
@every_similarity
@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
def test_is_the_reference(projections, evaluate, eager, loss, similarity, semi_hard, normalize):
    z = projections()
    objective = made(loss, similarity, 0.7, 0.3, semi_hard, normalize)
    expected = references.contrast(z, loss, similarity, 0.7, 0.3, semi_hard, normalize, matrix_of(objective))
    np.testing.assert_allclose(evaluate(objective, z)[:3], expected, rtol=1e-10, atol=1e-10)


@every_loss
@every_similarity
def test_is_the_reference_in_float32(projections, evaluate, eager, loss, similarity):
    z = projections().astype(np.float32)
    expected = references.contrast(z.astype(np.float64), loss, similarity, matrix=np.eye(5))
    np.testing.assert_allclose(evaluate(Objective(loss, similarity), z)[:3], expected, rtol=1e-5, atol=1e-5)


@every_loss
@every_similarity
@pytest.mark.parametrize("semi_hard", [False, True])
def test_gradients_are_finite_differences(projections, evaluate, eager, loss, similarity, semi_hard):
    z, step = projections(), 1e-6
    objective = made(loss, similarity, 0.7, 0.3, semi_hard)
    gradient = evaluate(objective, z)[-1]
    for seed in range(3):
        along = np.random.default_rng(seed).normal(size=z.shape)
        difference = (objective(z + step * along).loss - objective(z - step * along).loss) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * along), difference, rtol=1e-5, atol=1e-7)


@every_loss
def test_gradient_of_the_learned_matrix_is_finite_differences_and_symmetric(projections, eager, loss):
    objective, step = made(loss, "bilinear"), 1e-6
    matrix = objective.matrix.value
    with tf.GradientTape() as tape:
        value = objective(projections()).loss
    gradient, start = tape.gradient(value, matrix).numpy(), objective.matrix.numpy()
    np.testing.assert_allclose(gradient, gradient.T, atol=1e-12)
    along = np.random.default_rng(0).normal(size=start.shape)
    ends = []
    for sign in (1, -1):
        objective.matrix.assign(start + sign * step * along)
        ends.append(float(objective(projections()).loss))
    np.testing.assert_allclose(np.sum(gradient * along), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)


@every_similarity
@pytest.mark.parametrize("pairs", [1, 2, 8])
def test_identical_embeddings_look_all_alike(evaluate, eager, similarity, pairs):
    z = np.full((2 * pairs, 5), 0.3, np.float32)
    loss, accuracy, entropy, gradient = evaluate(Objective("nt_xent", similarity), z)
    np.testing.assert_allclose([loss, entropy], np.log(2 * pairs - 1), atol=1e-5)
    assert accuracy == (pairs == 1)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_well_separated_pairs_are_all_found(evaluate, eager):
    loss, accuracy, entropy, _ = evaluate(lambda z: nt_xent(z, 0.02), np.tile(np.eye(5), [2, 1]))
    assert accuracy == 1
    np.testing.assert_allclose([loss, entropy], 0, atol=1e-9)


@every_loss
@every_similarity
def test_order_of_views_and_of_pairs_does_not_matter(projections, evaluate, eager, loss, similarity):
    z = projections()
    objective = made(loss, similarity, semi_hard=True)
    order = np.random.default_rng(0).permutation(6)
    for rows in (np.r_[6:12, 0:6], np.r_[order, 6 + order]):
        expected, actual = evaluate(objective, z), evaluate(objective, z[rows])
        np.testing.assert_allclose(actual[:3], expected[:3], atol=1e-12)
        np.testing.assert_allclose(actual[3], expected[3][rows], atol=1e-12)


@pytest.mark.parametrize("similarity", sorted(set(SIMILARITIES) - {"dot"}))
def test_lengths_do_not_matter_after_normalization(projections, evaluate, eager, similarity):
    z = projections()
    scale = np.random.default_rng(0).uniform(0.1, 10, size=(12, 1))
    objective = made("nt_xent", similarity)
    expected, actual = evaluate(objective, z), evaluate(objective, z * scale)
    np.testing.assert_allclose(actual[:3], expected[:3], atol=1e-12)
    np.testing.assert_allclose(actual[3] * scale, expected[3], atol=1e-12)


def test_cosine_without_normalization_is_dot(projections, evaluate, eager):
    z = projections()
    results = [
        evaluate(objective, z)
        for objective in (made(similarity="cosine", normalize=False), made(similarity="dot"), made(similarity="cosine"))
    ]
    for a, b in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert abs(results[0][0] - results[2][0]) > 1e-3


def test_plain_function_is_the_default_objective(projections, evaluate, eager):
    z = projections()
    for a, b in zip(evaluate(nt_xent, z), evaluate(made(), z), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every_loss
def test_half_precision_is_computed_in_float32(projections, evaluate, eager, loss, dtype):
    half = tf.cast(1000 * projections(), dtype)  # squares of these overflow float16
    for objective in (Objective(loss, temperature=0.05), *([nt_xent] if loss == "nt_xent" else [])):
        assert objective(half).loss.dtype == tf.float32
        actual, expected = evaluate(objective, half), evaluate(objective, tf.cast(half, tf.float32))
        np.testing.assert_array_equal(actual[:3], expected[:3])
        assert np.isfinite(actual[3].astype(np.float32)).all()


def test_global_half_precision_policy_does_not_reach_the_loss(projections):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        objective = make_objective(config.Loss(similarity="bilinear"))
        objective.build((None, 5))
    finally:
        keras.config.set_dtype_policy("float32")
    assert (objective.compute_dtype, objective.matrix.dtype) == ("float32", "float32")


def test_names_and_defaults_are_those_of_the_configuration():
    assert sorted(LOSSES) == list(pretraining.LOSS_NAMES) == sorted(references.LOSSES)
    assert sorted(SIMILARITIES) == list(pretraining.SIMILARITY_NAMES) == sorted(references.SIMILARITIES)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Objective).parameters.items()
        if name != "dtype"
    }
    settings = config.Loss()
    assert {name: defaults[name] for name in vars(settings)} == vars(settings)
    assert inspect.signature(nt_xent).parameters["temperature"].default == settings.temperature


def test_settings_reach_the_objective():
    settings = config.Loss("nt_logistic", "angular", 0.2, 0.8, True, False)
    arguments = make_objective(settings).get_config()
    assert {name: arguments[name] for name in vars(settings)} == vars(settings)


def test_a_copy_from_its_configuration_is_the_same(projections, evaluate, eager):
    objective = Objective("margin_triplet", "negative_euclidean", margin=0.8, semi_hard=True, normalize=False)
    copy = keras.layers.deserialize(keras.layers.serialize(objective))
    z = projections()
    np.testing.assert_array_equal(evaluate(copy, z)[-1], evaluate(objective, z)[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "triplet"}, r"`loss` must be one of \['decoupled', .*\]\. Received: triplet"),
        ({"similarity": "cos"}, r"`similarity` must be one of \['angular', .*\]\. Received: cos"),
        ({"temperature": 0.0}, r"`temperature` must be greater than 0\. Received: 0\.0"),
        ({"temperature": float("nan")}, r"Received: nan"),
        ({"margin": -0.1}, r"`margin` must be at least 0\. Received: -0\.1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objective(**arguments)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match=r"\(2B, D\)\. Received: shape \(3, 4\)"):
        nt_xent(tf.ones([3, 4]))
    with pytest.raises(ValueError, match=r"Received: shape \(4,\)"):
        nt_xent(tf.ones([4]))
    with pytest.raises(ValueError, match=r"Received: -1"):
        nt_xent(tf.ones([4, 4]), temperature=-1)


def test_the_model_has_the_learned_matrix_before_its_optimizer():
    settings = config.Config().replace("network", encoder="resnet18", width=0.0625, projection_dim=6)
    plain, learned = (
        build_model(settings.replace("objective", similarity=name), (8, 8, 3)) for name in ("cosine", "bilinear")
    )
    paths = [{variable.path for variable in model.trainable_variables} for model in (plain, learned)]
    assert paths[1] - paths[0] == {"objective/matrix"}
    np.testing.assert_array_equal(learned.objective.matrix, np.eye(6))


def test_the_learned_matrix_is_trained_and_saved(projections):
    def model():
        objective = make_objective(config.Loss(similarity="bilinear"))
        encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, name="dense")], name="encoder")
        head = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="z")], name="head")
        objective.build(head.output_shape)
        simclr = SimCLR(encoder, head, lambda images, step: tf.concat([images, images + 0.1], axis=0), objective)
        simclr.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        return simclr

    trained, other = model(), model()
    images = projections()[:8].astype(np.float32)
    trained.fit(images, batch_size=8, verbose=0)
    matrix = trained.objective.matrix.numpy()
    assert np.abs(matrix - np.eye(3)).max() > 1e-4
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    checkpoints.restore(other.weights, checkpoints.collect(trained.weights))
    np.testing.assert_array_equal(other.objective.matrix, matrix)


def test_another_loss_under_the_same_name_is_another_loss(monkeypatch):
    """As when a notebook's cell is edited and run again: what was compiled before must not be used."""
    z, found = tf.random.stateless_normal([8, 4], seed=[0, 0]), []
    for factor in (1.0, 3.0):
        monkeypatch.setitem(LOSSES, "mine", lambda scores, temperature, margin, factor=factor: factor * scores.positive)
        found.append(float(Objective("mine")(z).loss))
    assert found[1] == pytest.approx(3 * found[0]) and found[0] != 0


def test_a_temperature_of_numpy_is_a_number():
    z = tf.random.stateless_normal([8, 4], seed=[0, 0])
    assert float(nt_xent(z, np.float64(0.3)).loss) == float(nt_xent(z, 0.3).loss)


def test_several_replicas_need_batches_of_one_size(monkeypatch):
    monkeypatch.setattr("simclr_tf.objectives.objective.num_replicas", lambda: 2)
    with pytest.raises(ValueError, match=r"`drop_remainder=True`. Received: shape \(None, 4\)"):
        tf.function(nt_xent).get_concrete_function(tf.TensorSpec([None, 4]))
