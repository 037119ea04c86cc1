import itertools
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.distribution import best_precision
from simclr_tf.networks.convolution import Conv2D, convolve, convolve_2x2, kernel_gradient

SIZES = [(2, 2), (4, 7), (5, 3), (8, 8)]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def written(x, dy, size, stride):
    """dW[i, j, c, k] = sum over n, h, w of x[n, s h + i, s w + j, c] dy[n, h, w, k], without padding."""
    height, width = dy.shape[1:3]
    found = np.zeros((*size, x.shape[-1], dy.shape[-1]))
    for i, j, h, w in itertools.product(*map(range, (*size, height, width))):
        found[i, j] += x[:, stride * h + i, stride * w + j].T @ dy[:, h, w]
    return found


@pytest.mark.parametrize(("side", "taps", "stride"), [(4, 3, 1), (5, 3, 2), (6, 3, 2), (7, 2, 3), (3, 3, 1)])
def test_kernel_gradient_is_the_sum_that_defines_it(side, taps, stride):
    x, dy = draw(3, side, side, 2), draw(3, *[(side - taps) // stride + 1] * 2, 5, seed=1)
    found = kernel_gradient(tf.constant(x), tf.constant(dy), (taps, taps), stride, "VALID")
    np.testing.assert_allclose(found, written(x, dy, (taps, taps), stride), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_gradients_are_those_of_tensorflow(size, padding):
    for taps, stride in itertools.product((2, 3, 5), (1, 2, 3)):
        if padding == "VALID" and min(size) < taps:
            continue
        x, kernel = tf.constant(draw(6, *size, 3)), tf.constant(draw(taps, taps, 3, 4, seed=1))
        found = []
        for function in (convolve, tf.nn.conv2d):
            with tf.GradientTape() as tape:
                tape.watch((x, kernel))
                y = function(x, kernel, stride, padding)
                loss = tf.reduce_sum(tf.sin(y))
            found.append((y, *tape.gradient(loss, (x, kernel))))
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_matrix_product_convolves_maps_of_four_pixels():
    x, kernel = draw(6, 2, 2, 3), draw(3, 3, 3, 5, seed=1)
    expected = np.zeros((6, 2, 2, 5))
    for p, q, i, j in itertools.product((0, 1), repeat=4):
        expected[:, p, q] += x[:, i, j] @ kernel[i - p + 1, j - q + 1]
    np.testing.assert_allclose(convolve_2x2(tf.constant(x), tf.constant(kernel)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU convolves by itself")
def test_maps_of_four_pixels_are_multiplied_in_training():
    ours, theirs, x = pair("float32", 2, 64, 1)
    (found, operations), (expected, stock) = gradients(ours, x), gradients(theirs, x)
    assert "Conv2D" in stock and "MatMul" not in stock and "Conv2D" not in operations and "MatMul" in operations
    for a, b in zip(found, expected, strict=True):
        assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(b)
    inference = tf.function(ours).get_concrete_function(x).graph.get_operations()
    assert "Conv2D" in {operation.type for operation in inference}


def gradients(layer, x, compiled=False):
    """Gradients for inputs and kernel, and the names of the graph's operations."""

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if isinstance(layer, Conv2D) else layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
        return tape.gradient(loss, (x, layer.kernel.value))

    function = tf.function(step, jit_compile=compiled)
    operations = {operation.type for operation in function.get_concrete_function(x).graph.get_operations()}
    return function(x), operations


def pair(dtype, side, filters, stride):
    """Our layer and Keras', with the same kernel, and images."""
    found = []
    for kind in (Conv2D, keras.layers.Conv2D):
        layer = kind(filters, 3, stride, "same", use_bias=False, dtype=dtype)
        layer.build((None, side, side, 16))
        found.append(layer)
    found[1].set_weights(found[0].get_weights())
    return *found, tf.cast(draw(16, side, side, 16), found[0].compute_dtype)


@pytest.mark.parametrize(("side", "stride"), [(4, 1), (6, 1), (12, 2)])
def test_small_maps_in_bfloat16_exchange_roles(side, stride):
    ours, theirs, x = pair("mixed_bfloat16", side, 64, stride)
    # A CPU without bfloat16 in hardware also sums in it.
    emulated = "has none" in best_precision(tf.distribute.get_strategy())[1]
    (found, operations), (expected, stock) = gradients(ours, x), gradients(theirs, x)
    assert "Conv2DBackpropFilter" in stock and "Conv2DBackpropFilter" not in operations
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        a, b = (tf.cast(value, tf.float32).numpy() for value in (a, b))
        assert np.linalg.norm(a - b) < (0.02 if emulated else 0.01) * np.linalg.norm(b)  # bfloat16 has 8 bits


@pytest.mark.parametrize(
    ("dtype", "side", "filters"), [("float32", 4, 64), ("mixed_bfloat16", 8, 64), ("mixed_bfloat16", 2, 16)]
)
def test_all_else_is_keras_layer(dtype, side, filters):
    ours, theirs, x = pair(dtype, side, filters, 1)
    (found, operations), (expected, _) = gradients(ours, x), gradients(theirs, x)
    assert "Conv2DBackpropFilter" in operations
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not HAS_XLA, reason="no XLA for this CPU")
@pytest.mark.parametrize(("dtype", "side"), [("float32", 2), ("mixed_bfloat16", 4)])
def test_xla_keeps_its_own_gradient(dtype, side):
    ours, _, x = pair(dtype, side, 64, 1)
    assert "Conv2DBackpropFilter" in gradients(ours, x, compiled=True)[1]


def test_weights_files_are_those_of_keras_layer(tmp_path):
    models = [keras.Sequential([keras.Input((8, 8, 3)), kind(4, 3)]) for kind in (Conv2D, keras.layers.Conv2D)]
    for source, target in (models, models[::-1]):
        source.set_weights([draw(*weight.shape, seed=2) for weight in source.weights])
        source.save_weights(tmp_path / "a.weights.h5")
        target.set_weights([np.zeros(weight.shape) for weight in target.weights])
        target.load_weights(tmp_path / "a.weights.h5")
        np.testing.assert_array_equal(target.get_weights()[0], source.get_weights()[0])


def test_two_replicas_have_the_gradient_of_one(run_python):
    script = """
        import simclr_tf.quiet
        import keras, numpy as np, tensorflow as tf
        from simclr_tf.networks.convolution import Conv2D
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            layer = Conv2D(64, 3, padding="same", dtype="mixed_bfloat16")
            layer.build((None, 4, 4, 32))
        x = np.random.default_rng(0).normal(size=(16, 4, 4, 32)).astype("float32")

        def gradient(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(x), tf.float32) ** 2)
            return tape.gradient(loss, layer.kernel.value)

        @tf.function
        def step():
            values = strategy.experimental_distribute_values_from_function(lambda c: c.replica_id_in_sync_group)
            return strategy.run(lambda i: gradient(tf.gather(tf.reshape(x, [2, 8, 4, 4, 32]), i)), (values,))

        parts = [part.numpy() for part in strategy.experimental_local_results(step())]
        whole = gradient(x).numpy()
        assert len(parts) == 2 and not np.array_equal(*parts)
        print(np.linalg.norm(sum(parts) - whole) / np.linalg.norm(whole))
    """
    result = run_python("-c", textwrap.dedent(script))
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.01
