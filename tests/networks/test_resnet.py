import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.networks import projection_head, resnet
from simclr_tf.networks.resnet import convolution


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def kernels(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def test_parameters_of_resnet50():
    # He et al. and torchvision: 25.557 M with the classifier of 2.049 M, so 23.508 M without; the CIFAR stem's
    # 3 x 3 kernels save 64 x 3 x (49 - 9) of them.
    imagenet = trainable(resnet("resnet50", (224, 224, 3)))
    cifar = trainable(resnet("resnet50", (32, 32, 3)))
    assert imagenet == 23_508_032
    assert imagenet - cifar == 64 * 3 * (49 - 9)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_parameters_are_those_of_the_paper(width, millions):
    # Table 6 and section 4.1: ResNet-50 of 24, 94 and 375 M, whose convolutions grow with the square of the width.
    assert round(trainable(resnet("resnet50", (224, 224, 3), width)) / 1e6) == millions


def test_cifar_stem_keeps_the_resolution_and_imagenet_stem_quarters_it():
    small, large = resnet("resnet18", (32, 32, 3), 1 / 8), resnet("resnet18", (96, 96, 3), 1 / 8)
    assert small.get_layer("stage1_block1_out").output.shape[1:3] == (32, 32)
    assert small.get_layer("stem_conv").kernel_size == (3, 3)
    assert large.get_layer("stage1_block1_out").output.shape[1:3] == (24, 24)
    assert large.get_layer("stem_conv").kernel_size == (7, 7)
    assert resnet("resnet18", (96, 96, 3), 1 / 8, stem="cifar").get_layer("stem_conv").kernel_size == (3, 3)


def test_width_multiplies_channels():
    assert resnet("resnet18", (16, 16, 3), 0.25).output_shape == (None, 128)
    assert resnet("resnet50", (16, 16, 3), 0.25).output_shape == (None, 512)


def test_blocks_start_as_the_identity():
    model = resnet("resnet18", (16, 16, 3), 1 / 8)
    x = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")
    inner = keras.Model(model.input, [model.get_layer("stem_relu").output, model.get_layer("stage1_block2_out").output])
    before, after = inner(x)
    np.testing.assert_allclose(before, after)


@pytest.mark.parametrize("size", [8, 9])
def test_a_strided_1x1_convolution_is_that_of_tensorflow(size):
    """With 16 channels, for which TensorFlow's own is sound."""
    images = keras.Input((size, size, 16))
    model = keras.Model(images, convolution(images, 6, 1, 2, "part", "float32", relu=False))
    inner = keras.Model(images, model.get_layer("part_conv").output)
    kernel = inner.trainable_variables[0].value
    x = tf.constant(np.random.default_rng(0).normal(size=(4, size, size, 16)).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = inner(x), tf.nn.conv2d(x, kernel, 2, "SAME")
    np.testing.assert_array_equal(ours, theirs)
    for variable in (x, kernel):
        a, b = (tape.gradient(y, variable, tf.cos(theirs)) for y in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


TWO_STEPS = """
    import simclr_tf.quiet
    import tensorflow as tf
    from simclr_tf.networks import resnet

    encoder = resnet("resnet18", (48, 48, 3), width=1 / 8)

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(images, training=True))
        return tape.gradient(loss, [variable.value for variable in encoder.trainable_variables])

    for _ in range(2):
        step(tf.random.uniform((16, 48, 48, 3)))
"""


@pytest.mark.slow
def test_narrow_networks_leave_the_heap_intact(run_python):
    """A strided 1x1 convolution of 8 channels and 48 pixels ends the process, or never returns, where oneDNN runs it."""
    checks = {"MALLOC_CHECK_": "3", "LD_PRELOAD": "libc_malloc_debug.so.0"}  # the library only since glibc 2.34
    done = run_python("-c", textwrap.dedent(TWO_STEPS), timeout=120, **checks)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_representation_is_float32(dtype):
    model = resnet("resnet18", (16, 16, 3), 1 / 8, dtype=dtype)
    head = projection_head("nonlinear", model.output_shape[-1], 8, dtype)
    z = head(model(np.zeros((2, 16, 16, 3), "float32"), training=True), training=True)
    assert model.output.dtype == z.dtype.name == "float32"
    assert all(variable.dtype == "float32" for variable in model.variables)


@pytest.mark.parametrize(
    "make",
    [
        lambda: resnet("resnet19", (32, 32, 3)),
        lambda: resnet("resnet18", (32, 32, 3), stem="nonsense"),
        lambda: projection_head("nonsense", 8),
    ],
)
def test_unknown_names(make):
    with pytest.raises(ValueError, match="Expected.*Received: (resnet19|nonsense)"):
        make()
