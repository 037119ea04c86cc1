import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import RandomFlip, TwoViews, simclr
from simclr_tf.data.patterns import make_patterns
from simclr_tf.networks import projection_head
from simclr_tf.objectives import nt_xent
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.simclr import VALIDATION_STEP, SimCLR
from tests import tiny

BATCH, SIZE = 8, 16
VIEWS = TwoViews(simclr(), seed=1)  # one, because they are compiled


def make_model(optimizer=None):
    keras.utils.set_random_seed(0)
    encoder = tiny.encoder((SIZE, SIZE, 3))
    head = projection_head("nonlinear", encoder.output_shape[-1], 16)
    model = SimCLR(encoder, head, VIEWS, functools.partial(nt_xent, temperature=0.5))
    optimizer = optimizer or LARS(0.5, weight_decay=1e-4)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    return model


@pytest.fixture(scope="module")
def images():
    return make_patterns(BATCH, seed=0)[0][:, :SIZE, :SIZE]


def numpy_values(model):
    return [variable.numpy() for variable in [*model.weights, *model.optimizer.variables]]


def test_step_is_algorithm_1(images):
    """The loss of a step is NT-Xent of the projections of the step's two views, and its update is LARS'."""
    model, twin = make_model(), make_model()
    logs = model.train_on_batch(tf.constant(images), return_dict=True)

    views = twin.views(tf.constant(images), 0)
    with tf.GradientTape() as tape:
        loss = nt_xent(twin(views, training=True), 0.5).loss
    gradients = tape.gradient(loss, twin.trainable_variables)
    twin.optimizer.apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for ours, theirs in zip(numpy_values(model), numpy_values(twin), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_each_step_has_its_own_views_and_validation_the_same(images):
    first, second = VIEWS(tf.constant(images), 0), VIEWS(tf.constant(images), 1)
    assert not np.allclose(first, second)
    assert not np.allclose(*np.split(np.asarray(first), 2))
    validation = VIEWS(tf.constant(images), VALIDATION_STEP)
    np.testing.assert_array_equal(validation, VIEWS(tf.constant(images), VALIDATION_STEP))
    assert not np.allclose(validation, first)


def test_validation_changes_nothing(images):
    model = make_model()
    before = numpy_values(model)
    logs = [model.test_on_batch(tf.constant(images), return_dict=True) for _ in range(2)]
    assert logs[0] == logs[1]
    for ours, theirs in zip(before, numpy_values(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fit_lowers_the_loss_and_reports_means(images):
    model = make_model(keras.optimizers.Adam(3e-3))
    data = tf.data.Dataset.from_tensors(images).repeat()
    history = model.fit(data, steps_per_epoch=15, epochs=4, verbose=0, shuffle=False).history
    assert set(history) == {"loss", "contrastive_accuracy", "contrastive_entropy", "skipped"}
    assert history["loss"][-1] < history["loss"][0] - 0.1
    assert 0.0 <= history["contrastive_accuracy"][-1] <= 1.0
    assert 0.0 < history["contrastive_entropy"][-1] < np.log(2 * BATCH - 1)


def test_every_weight_is_trained(images):
    model = make_model()
    before = [variable.numpy() for variable in model.trainable_variables]
    for _ in range(3):  # the last batch norm of a block starts at zero, so its block learns from the second step on
        model.train_on_batch(tf.constant(images))
    still = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.array_equal(v.numpy(), old)]
    assert still == []


def test_fit_on_replicas_builds_the_optimizer_and_asks_for_a_built_model(run_python, tmp_path):
    """In a process of its own, because TensorFlow's devices are fixed once it has started."""
    script = tmp_path / "replicas.py"
    script.write_text(
        "import keras, numpy as np, tensorflow as tf\n"
        "from simclr_tf import SimCLR, Objective, TwoViews, projection_head\n"
        "tf.config.set_logical_device_configuration(\n"
        "    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)\n"
        "def fit(strategy, first=True):\n"
        "    keras.utils.set_random_seed(0)\n"
        "    with strategy.scope():\n"
        "        encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(6)])\n"
        "        model = SimCLR(encoder, projection_head('linear', 6, 4), TwoViews([], compiled=False),\n"
        "                       Objective(similarity='bilinear'))\n"
        "        model.compile('sgd')\n"
        "        if first:\n"
        "            model.build((None, 8, 8, 3))\n"
        "    return model.fit(images, batch_size=8, epochs=2, verbose=0).history['loss']\n"
        "mirrored = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])\n"
        "np.testing.assert_allclose(fit(mirrored), fit(tf.distribute.OneDeviceStrategy('CPU:0')), rtol=1e-5)\n"
        "try:\n"
        "    fit(mirrored, first=False)\n"
        "except ValueError as error:\n"
        "    assert 'call `model.build((None, H, W, C))`' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    result = run_python(script)
    assert result.returncode == 0, result.stderr


def test_layers_of_others_keep_a_step_from_being_compiled():
    """Such as a rotation by Keras, for which XLA has no kernel."""
    images = keras.Input((8, 8, 3))
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    for layer, compiles in ((keras.layers.RandomRotation(0.1), False), (RandomFlip(), True)):
        model = SimCLR(encoder, projection_head("linear", 3, 2), TwoViews([layer], compiled=False))
        assert model.supports_jit == compiles


def test_a_step_that_is_not_finite_is_in_no_mean():
    model = make_model()
    model.record([tf.constant(2.0)] * 3)
    logs = model.record([tf.constant(np.nan)] * 3, tf.constant(False))
    assert (float(logs["loss"]), float(logs["skipped"])) == (2.0, 0.5)
