import json
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.networks.normalization import SyncBatchNormalization

CHANNELS = 5
COMPILED = [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_XLA, reason="no XLA for this CPU"))]


def draw(shape, seed=0, mean=0.5, std=2.0):
    return np.random.default_rng(seed).normal(mean, std, shape).astype("float32")


def layers(shape):
    """Ours and Keras', with the same scale and offset."""
    ours, keras_own = SyncBatchNormalization(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    for layer in (ours, keras_own):
        layer.build(shape)
        layer.gamma.assign(draw(CHANNELS, 1))
        layer.beta.assign(draw(CHANNELS, 2))
    return ours, keras_own


def run(layer, x, upstream, compiled=False):
    """Outputs, gradients of inputs, scale and offset, and the moving statistics after a step."""

    def step(x):
        variables = [layer.gamma.value, layer.beta.value]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return [y, *tape.gradient(y, [x, *variables], upstream)]

    results = tf.function(step, jit_compile=compiled)(tf.constant(x))
    return [np.asarray(value) for value in (*results, layer.moving_mean, layer.moving_variance)]


@pytest.mark.parametrize("shape", [(16, CHANNELS), (4, 3, 3, CHANNELS)])
@pytest.mark.parametrize("compiled", COMPILED)
def test_one_replica_is_keras_layer(shape, compiled):
    x, upstream = draw(shape), draw(shape, 3)
    ours, theirs = (run(layer, x, upstream, compiled) for layer in layers(shape))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, CHANNELS), (4, 3, 3, CHANNELS)])
def test_inference_is_keras_layer(shape):
    ours, theirs = layers(shape)
    for layer in (ours, theirs):
        layer.moving_mean.assign(draw(CHANNELS, 4))
        layer.moving_variance.assign(np.abs(draw(CHANNELS, 5)))
    np.testing.assert_allclose(ours(draw(shape)), theirs(draw(shape), training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
def test_stable_where_the_mean_dwarfs_the_deviation(compiled):
    """E[x^2] - E[x]^2 would lose everything here: float32 has steps of 0.008 at 300^2, and the variance is 0.01."""
    x = draw((64, 4, 4, CHANNELS), mean=300.0, std=0.1)
    layer = SyncBatchNormalization(momentum=0.0)
    layer.build(x.shape)
    y = run(layer, x, np.ones_like(x), compiled)[0]
    exact = (x.astype("f8") - x.mean((0, 1, 2), dtype="f8")) / np.sqrt(x.var((0, 1, 2), dtype="f8") + layer.epsilon)
    np.testing.assert_allclose(y, exact, atol=5e-3)
    np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2), dtype="f8"), rtol=5e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_stay_in_float32(policy):
    layer = SyncBatchNormalization(dtype=policy)
    y = layer(draw((16, 2, 2, CHANNELS)), training=True)
    assert y.dtype == tf.as_dtype(keras.DTypePolicy(policy).compute_dtype)
    assert {variable.dtype for variable in layer.variables} == {"float32"}


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_half_precision_throughout_has_statistics_in_float32_too(policy):
    layer, x = SyncBatchNormalization(dtype=policy), tf.constant(draw((16, 2, 2, CHANNELS)))
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.square(tf.cast(y, tf.float32)))
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert y.dtype == policy and {variable.dtype for variable in layer.variables} == {"float32"}
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_frozen_layer_keeps_its_statistics():
    layer = SyncBatchNormalization()
    layer.build((None, CHANNELS))
    layer.trainable = False
    layer(draw((16, CHANNELS)), training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(CHANNELS))


def test_statistics_that_are_not_finite_are_not_kept():
    layer, x = SyncBatchNormalization(momentum=0.5), draw((16, CHANNELS))
    layer(x, training=True)
    before = [each.numpy() for each in (layer.moving_mean, layer.moving_variance)]
    x[3, 0] = np.inf
    layer(x, training=True)
    for value, was in zip((layer.moving_mean, layer.moving_variance), before, strict=True):
        assert value.numpy()[0] == was[0] and (value.numpy()[1:] != was[1:]).all()


def test_comes_back_from_its_config():
    layer = SyncBatchNormalization(momentum=0.8, epsilon=1e-3, gamma_initializer="zeros")
    twin = keras.layers.deserialize(keras.layers.serialize(layer))
    assert twin.get_config() == layer.get_config()


# A strategy needs a process of its own. Prints, for each layer: outputs in the order of the images, gradients of the
# inputs likewise, the sums of the replicas' gradients of scale and offset, and the moving statistics; and how many
# collectives a step of our layer calls for.
SCRIPT = """
    import json, sys
    import simclr_tf.quiet
    import keras, numpy as np, tensorflow as tf
    from simclr_tf import distribution
    from simclr_tf.config import Hardware
    from simclr_tf.networks.normalization import SyncBatchNormalization

    replicas, mean, std = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    strategy = distribution.make_strategy(Hardware(strategy="mirrored", logical_cpus=replicas))
    random = np.random.default_rng(0)
    x = random.normal(mean, std, (8, 3, 3, 5)).astype("f4") + std * np.arange(8, dtype="f4")[:, None, None, None]
    upstream = random.normal(size=x.shape).astype("f4")
    size = len(x) // replicas

    def part(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group * size :][:size])
        )

    calls, all_reduce = [], tf.distribute.ReplicaContext.all_reduce
    def counting(self, *args, **kwargs):
        calls.append(self.replica_id_in_sync_group)
        return all_reduce(self, *args, **kwargs)
    tf.distribute.ReplicaContext.all_reduce = counting

    def evaluate(layer):
        @tf.function
        def run(x, upstream):
            def step(x, upstream):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = layer(x, training=True)
                    loss = tf.reduce_sum(y * upstream)
                return y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
            return strategy.run(step, (x, upstream))
        y, dx, dgamma, dbeta = map(strategy.experimental_local_results, run(part(x), part(upstream)))
        found = [np.concatenate(y), np.concatenate(dx), np.sum(dgamma, 0), np.sum(dbeta, 0)]
        return [value.tolist() for value in (*found, layer.moving_mean.numpy(), layer.moving_variance.numpy())]

    with strategy.scope():
        ours = SyncBatchNormalization()
        theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True)
        for layer in (ours, theirs):
            layer.build(x.shape)
    results = {"ours": evaluate(ours), "collectives": len(calls) / replicas}
    print(json.dumps(results | {"theirs": evaluate(theirs), "x": x.tolist(), "upstream": upstream.tolist()}))
"""


@pytest.fixture(scope="module")
def replicated(run_python):
    def run_script(*arguments):
        done = run_python("-c", textwrap.dedent(SCRIPT), *arguments)
        assert done.returncode == 0, done.stderr
        return {key: value for key, value in json.loads(done.stdout).items()}

    return run_script


def test_replicas_are_keras_synchronized_layer_with_one_collective_each_way(replicated):
    found = replicated(2, 0.5, 2.0)
    for ours, theirs in zip(found["ours"], found["theirs"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert found["collectives"] == 2


def test_replicas_are_one_device_also_where_the_mean_dwarfs_the_deviation(replicated):
    found = replicated(4, 300.0, 0.1)
    x = np.asarray(found["x"], np.float64)
    layer = SyncBatchNormalization()
    layer.build(x.shape)
    one = run(layer, np.asarray(found["x"], np.float32), np.asarray(found["upstream"], np.float32))
    for ours, expected in zip(found["ours"], one, strict=True):
        np.testing.assert_allclose(ours, expected, atol=5e-3 * np.abs(expected).max())
    y = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + layer.epsilon)
    np.testing.assert_allclose(found["ours"][0], y, atol=5e-3)
