"""SimCLR as a Keras user has it: saved, loaded, trained on, compiled by name, with Keras' callbacks and inputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import GaussianNoise, RandomFlip, RandomResizedCrop, TwoViews, simclr
from simclr_tf.networks import projection_head, resnet
from simclr_tf.objectives import Objective, nt_xent
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.simclr import SimCLR

BATCH = 8
SLOW = pytest.mark.slow


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A user's own encoder."""

    def __init__(self, width=6, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.conv, self.norm = keras.layers.Conv2D(width, 3, strides=2), keras.layers.BatchNormalization()
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, x, training=False):
        return self.pool(tf.nn.relu(self.norm(self.conv(x), training=training)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def layers():
    return [
        keras.layers.Conv2D(6, 3, strides=2),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(),
    ]


# Encoders for 32 x 32 images; those above are built by the first batch.
ENCODERS = {
    "subclassed": Subclassed,
    "sequential": lambda: keras.Sequential(layers()),
    "sequential_with_input": lambda: keras.Sequential([keras.Input((32, 32, 3)), *layers()]),
    "resnet": lambda: resnet("resnet18", (32, 32, 3), width=1 / 16),
    "application": lambda: keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    ),
}
WIDTHS = {"resnet": 32, "application": 1280}


def make_model(encoder="sequential", objective=nt_xent, optimizer="adam", layers=None, **kwargs):
    keras.utils.set_random_seed(0)
    views = TwoViews(layers or [*simclr(), GaussianNoise()], seed=1, compiled=False)
    model = SimCLR(ENCODERS[encoder](), projection_head("nonlinear", WIDTHS.get(encoder, 6), 5), views, objective)
    model.compile(optimizer, **kwargs)
    return model


def saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2 * BATCH, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def eager():
    """Runs steps op by op: a few take less time than tracing one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def assert_equal_states(model, other):
    """Weights and batch norms' statistics, the objective's matrix, and the optimizer's slots and iterations."""
    variables = [*model.weights, *model.optimizer.variables], [*other.weights, *other.optimizer.variables]
    for ours, theirs in zip(*variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize(
    ("encoder", "objective", "optimizer"),
    [
        ("sequential", lambda: nt_xent, lambda: "adam"),
        ("sequential_with_input", lambda: Objective(temperature=0.2), lambda: LARS(0.5, weight_decay=1e-4)),
        ("subclassed", lambda: Objective("nt_logistic", "bilinear"), lambda: LARS(1.0)),
        pytest.param(
            "resnet", lambda: Objective(similarity="bilinear"), lambda: keras.optimizers.Adam(1e-2), marks=SLOW
        ),
        pytest.param("application", lambda: nt_xent, lambda: LARS(0.5), marks=SLOW),
    ],
)
def test_a_loaded_model_continues_as_if_it_had_not_been_saved(encoder, objective, optimizer, eager, images, tmp_path):
    check_continuation(make_model(encoder, objective(), optimizer()), images, tmp_path)


def test_a_loaded_model_continues_in_a_graph(images, tmp_path):
    parts = {"objective": Objective(similarity="bilinear"), "layers": [RandomResizedCrop(), RandomFlip()]}
    check_continuation(make_model(**parts), images, tmp_path)


def check_continuation(model, images, tmp_path):
    model.fit(images, batch_size=BATCH, shuffle=False, verbose=0)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.optimizer.iterations.numpy() > 0  # the one with a loss scale may have skipped a step
    assert_equal_states(model, loaded)
    np.testing.assert_array_equal(loaded(images), model(images))
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))

    before = model.trainable_variables[-1].numpy()
    for _ in range(2):
        logs = [m.train_on_batch(images[:BATCH], return_dict=True) for m in (model, loaded)]
        assert logs[0] == logs[1]
    assert_equal_states(model, loaded)
    assert np.abs(model.trainable_variables[-1].numpy() - before).max() > 0


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_precision_loss_scale_and_schedule_are_saved(precision, images, tmp_path, eager):
    rate = keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=3)
    keras.config.set_dtype_policy(precision)
    try:
        model = make_model(optimizer=LARS(rate))
    finally:
        keras.config.set_dtype_policy("float32")
    check_continuation(model, images, tmp_path)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.encoder.layers[0].compute_dtype == precision.removeprefix("mixed_")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()


def test_a_clone_has_equal_parts_of_its_own():
    model = make_model()
    clone = keras.models.clone_model(model)
    assert clone.get_config() == model.get_config() and clone.encoder is not model.encoder


def test_a_part_that_cannot_be_saved_is_named(tmp_path):
    model = make_model("sequential_with_input", objective=_Unserializable())
    with pytest.raises(TypeError, match="_Unserializable.* must implement the `get_config"):
        model.save(tmp_path / "model.keras")


class _Unserializable:
    def __call__(self, z):
        return nt_xent(z)


@pytest.mark.parametrize("encoder", ["sequential", "subclassed"])
def test_an_encoder_is_built_by_the_first_batch(encoder, images, eager):
    model = make_model(encoder, Objective(similarity="bilinear"))
    assert not model.built
    history = model.fit(images, batch_size=BATCH, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    paths = [variable.path for variable in model.trainable_variables]
    assert len(paths) == len(model.optimizer.variables) // 2 - 1  # two moments each, iterations and the rate
    assert make_model(encoder).predict(images, verbose=0).shape == (2 * BATCH, 5)


def test_predict_and_evaluate_scale_bytes_as_fit_does(images, eager):
    model = make_model()
    floats = images / np.float32(255)
    projections = model.predict(images, verbose=0)
    np.testing.assert_allclose(projections, model.predict(floats, verbose=0), atol=1e-6)
    np.testing.assert_allclose(projections, model(floats), atol=1e-6)
    np.testing.assert_allclose(model.evaluate(images, verbose=0), model.evaluate(floats, verbose=0), rtol=1e-5)
    with pytest.raises(ValueError, match="Received: int32"):
        model(images.astype(np.int32))


def test_every_kind_of_input_gives_the_same_losses(images, eager):
    """Arrays and data sets, with labels and without."""
    labels, batches = np.arange(2 * BATCH), tf.data.Dataset.from_tensor_slices
    data = [
        {"x": images, "batch_size": BATCH},
        {"x": images, "y": labels, "batch_size": BATCH},
        {"x": batches(images).batch(BATCH)},
        {"x": batches((images, labels)).batch(BATCH)},
    ]
    histories = [make_model().fit(**kwargs, epochs=2, shuffle=False, verbose=0).history for kwargs in data]
    assert set(histories[0]) == {"loss", "contrastive_accuracy", "contrastive_entropy", "skipped"}
    for history in histories[1:]:
        for name, values in histories[0].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-5)


def test_callbacks_and_validation(images, tmp_path, eager):
    model, path = make_model(layers=[RandomFlip()]), tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", min_delta=100, patience=1),
        keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True),
    ]
    history = model.fit(
        images, validation_data=(images[:BATCH], np.arange(BATCH)), epochs=5, callbacks=callbacks, verbose=0
    ).history
    assert len(history["loss"]) == len(history["val_contrastive_accuracy"]) == 2
    best = keras.saving.load_model(path)
    assert best.evaluate(images[:BATCH], verbose=0, return_dict=True)["loss"] == pytest.approx(min(history["val_loss"]))


def test_loads_in_another_process(images, run_python, tmp_path, eager):
    model = make_model("sequential_with_input", Objective(similarity="bilinear"), LARS(1.0))
    model.fit(images, batch_size=BATCH, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    script = (
        "import keras, numpy as np, simclr_tf\n"
        "simclr_tf.SimCLR\n"
        f"model = keras.saving.load_model(r'{tmp_path}/model.keras')\n"
        f"print(model.train_on_batch(np.load(r'{tmp_path}/images.npy'))[0])\n"
    )
    result = run_python("-c", script)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) == pytest.approx(float(model.train_on_batch(images)[0]), rel=1e-5)


def test_unused_layers_of_the_views_are_no_weights_of_the_model():
    model = make_model("sequential_with_input", layers=[RandomResizedCrop(), keras.layers.GaussianNoise(0.1, seed=1)])
    assert all("noise" not in variable.path for variable in model.variables)
