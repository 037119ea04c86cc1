"""Mixed precision trains like float32; the loss scaling of float16 is applied, by several replicas as well."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import make_views
from simclr_tf.config import Config, Network, Optimization, Training
from simclr_tf.data.patterns import load_patterns
from simclr_tf.data.pipeline import training_batches
from simclr_tf.distribution import best_precision
from simclr_tf.optimizers import make_optimizer
from simclr_tf.tasks.pretrain import build_model

OVERFLOW = Path(__file__).with_name("overflow.py")
BATCH, STEPS = 64, 30
SLOW = pytest.mark.slow  # the same code as with two mirrored replicas


@pytest.fixture(
    scope="module", params=[pytest.param("one", marks=SLOW), "mirrored", pytest.param("workers", marks=SLOW)]
)
def states(request, run_python):
    """Of each precision, the states that `overflow.py` prints, the same by all workers."""
    commands = {
        "one": [OVERFLOW, 1],
        "mirrored": [OVERFLOW, 2],
        "workers": ["-m", "flags.launch", "--workers=2", "--", OVERFLOW, 2],
    }
    done = run_python(*commands[request.param], CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr
    if request.param == "workers":
        assert f"[worker 1] {done.stdout.rstrip()}" in done.stderr
    return json.loads(done.stdout)


def test_all_replicas_skip_the_step_that_overflows_in_one(states):
    """Weight, steps, steps taken, loss scale: an overflow halves the scale and leaves the weight alone."""
    scale = 2.0**15
    assert states["mixed_float16"] == [
        [0.5, 1, 1, scale], [0.5, 2, 1, scale / 2], [0.5, 3, 1, scale / 4], [0.0, 4, 2, scale / 4]
    ]  # fmt: skip


def test_all_replicas_skip_it_also_where_keras_scales_the_loss(states):
    """As above, but that steps which are skipped do not count."""
    scale = 2.0**15
    assert states["mixed_float16, scaled by Keras"] == [
        [0.5, 1, 1, scale], [0.5, 1, 1, scale / 2], [0.5, 1, 1, scale / 4], [0.0, 2, 2, scale / 4]
    ]  # fmt: skip


def test_no_replica_makes_an_update_that_is_not_finite_in_one(states):
    """Weight, steps, whether the step was finite: the weight is left alone, and the step counts."""
    assert states["float32"] == [[0.5, 1, True], [0.5, 2, False], [0.5, 3, False], [0.0, 4, True]]


@pytest.fixture(scope="module")
def images():
    return load_patterns(seed=0).train


def make_model(precision, seed=0):
    keras.utils.set_random_seed(seed)
    config = Config(network=Network(encoder="resnet18", width=1 / 8), training=Training(precision=precision, seed=seed))
    model = build_model(config, (32, 32, 3))
    model.compile(make_optimizer(Optimization(), 0.5, model.trainable_variables, precision), jit_compile=False)
    return model


def losses(images, precision, seed=0):
    model, found = make_model(precision, seed), []
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(logs["loss"]))
    model.fit(training_batches(images, BATCH, 0), epochs=STEPS, steps_per_epoch=1, callbacks=[log], verbose=0)
    return np.array(found)


@pytest.fixture(scope="module")
def views(images):
    return make_views(compiled=False)(next(iter(training_batches(images, BATCH, 0))), 0)


def gradient(precision, views):
    model = make_model(precision)
    with tf.GradientTape() as tape:
        loss = model.optimizer.scale_loss(model.objective(model(views, training=True)).loss)
    found = tape.gradient(loss, model.trainable_variables)
    return np.concatenate([tf.reshape(tf.cast(g, tf.float64), [-1]) for g in found])


@pytest.fixture(scope="module")
def reference(views):
    return gradient("float32", views)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_gradients_are_those_of_float32(views, reference, precision):
    """The first step's gradients over all variables have the same direction, as the optimizer sees them."""
    gradients = [reference, gradient(precision, views)]
    scale = 2.0**15 if precision == "mixed_float16" else 1.0
    norms = [np.linalg.norm(g) for g in gradients]
    assert norms[1] / norms[0] == pytest.approx(scale, rel=0.1)
    # A CPU without bfloat16 in hardware also sums in it.
    emulated = precision == "mixed_bfloat16" and "has none" in best_precision(tf.distribute.get_strategy())[1]
    assert gradients[0] @ gradients[1] / norms[0] / norms[1] > (0.9 if emulated else 0.98)


@pytest.mark.slow
def test_trains_to_within_noise_of_float32(images):
    """Noise is the difference that another seed makes."""
    reference = losses(images, "float32")
    noise = abs(losses(images, "float32", seed=1)[-10:].mean() - reference[-10:].mean())
    assert reference[:5].mean() - reference[-5:].mean() > 0.1  # it learns
    for precision in ("mixed_bfloat16", "mixed_float16"):
        assert abs(losses(images, precision)[-10:].mean() - reference[-10:].mean()) < max(noise, 0.05)
