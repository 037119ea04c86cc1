import functools
import re
import sys

import keras
import numpy as np
import pytest

from simclr_tf.networks import ENCODERS, make_encoder, projection_head
from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.networks.resnet import RESNETS
from simclr_tf.training import checkpoints

IMAGES = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")

NETS = """
import keras
from keras import layers

SHAPES = []
not_a_function = 3

def tiny(image_shape):
    SHAPES.append(image_shape)
    return keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()])

class Custom(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = layers.Conv2D(4, 3, name="hidden"), layers.BatchNormalization()
    def call(self, x, training=False):
        return keras.ops.mean(self.norm(self.conv(x), training=training), axis=(1, 2))

def custom(image_shape):
    return Custom()

def no_model(image_shape):
    return "resnet50"

def maps(image_shape):
    return keras.Sequential([layers.Conv2D(4, 3)])

def several(image_shape):
    x = keras.Input(image_shape)
    return keras.Model(x, [x, x])

def other_size(image_shape):
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)])

def same_names(image_shape):
    x = keras.Input(image_shape)
    inner = keras.Model(x, layers.Conv2D(3, 3, name="a")(x))
    return keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="a")(inner(x))))

def nothing(image_shape):
    return keras.Sequential([layers.Flatten()])

def half(channels):
    return channels // "2"  # raises

def raises(image_shape):
    return keras.Sequential([layers.Conv2D(half(image_shape[-1]), 3)])

def refused_by_keras(image_shape):
    return keras.Sequential([layers.Conv2D(4, -3)])  # raises

class Raises(keras.Model):
    def build(self, input_shape):
        pass
    def call(self, x):
        return x.no_such_thing  # raises

def raises_when_called(image_shape):
    return Raises()
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module of the user's."""
    (tmp_path / "user_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("user_nets", None)


def check(encoder):
    """What everything else takes for granted about an encoder."""
    assert encoder.input_shape == (None, 32, 32, 3) and len(encoder.output_shape) == 2
    h = np.asarray(encoder(IMAGES, training=False))
    assert h.dtype == np.float32 and h.shape == (4, encoder.output_shape[1]) and np.isfinite(h).all()
    assert np.ptp(h, axis=0).max() > 0  # tells images apart
    before = checkpoints.collect(encoder.variables)
    assert np.isfinite(np.asarray(encoder(IMAGES, training=True))).all()
    moved = [path for path, value in checkpoints.collect(encoder.variables).items() if (value != before[path]).any()]
    statistics = [path for path in before if "moving" in path]
    assert sorted(moved) == sorted(statistics) != []


@functools.cache
def made(name, dtype):
    return make_encoder(name, (32, 32, 3), width=1 / 8, dtype=dtype)


CASES = [
    ("mobilenet_v2", "float32"), ("mobilenet_v2", "mixed_bfloat16"), ("resnet18", "float32"),
    ("resnet18", "mixed_bfloat16"), ("resnet50", "mixed_bfloat16"), ("vgg11", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_contract(name, dtype):
    check(made(name, dtype))


@pytest.mark.parametrize("name", [name for name in sorted(ENCODERS) if name.startswith("resnet")])
def test_a_resnet_has_the_layers_of_its_name(name):
    depths, bottleneck = RESNETS[name]
    layers = sum(depths) * (3 if bottleneck else 2) + 2  # with the stem and the classifier
    assert layers == int(name.removeprefix("resnet"))


DEEP = {"resnet101", "resnet152", "resnet200"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in sorted(ENCODERS)]
)
def test_every_name_makes_a_network_of_that_name(name):
    encoder = make_encoder(name, (16, 16, 3), width=1 / 16)
    assert encoder.name == name and encoder.output.dtype == "float32"
    norms = [layer for layer in encoder.layers if "Normalization" in type(layer).__name__]
    assert norms and all(isinstance(layer, SyncBatchNormalization) and layer.momentum == 0.9 for layer in norms)
    kernels = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    assert all(layer.strides == (1, 1) for layer in kernels if layer.kernel_size == (1, 1))  # see networks/resnet.py
    if name.startswith("resnet"):
        shortcuts = sum("shortcut" in layer.name for layer in kernels)
        assert len(kernels) - shortcuts + 1 == int(name.removeprefix("resnet"))  # and the classifier


@pytest.mark.parametrize(("name", "dtype"), [*CASES, ("head", "float32"), ("head", "mixed_bfloat16")])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_networks_survive_saving(tmp_path, name, dtype):
    model, inputs = projection_head("nonlinear", 32, 8, dtype, layers=2), IMAGES[:, :, 0, 0]
    if name != "head":
        model, inputs = made(name, dtype), IMAGES
    model(inputs, training=True)  # the statistics are no longer the initial ones
    model.save(tmp_path / "saved.keras")
    loaded = keras.models.load_model(tmp_path / "saved.keras")
    np.testing.assert_array_equal(model(inputs, training=False), loaded(inputs, training=False))
    assert [layer.dtype_policy.name for layer in model.layers] == [layer.dtype_policy.name for layer in loaded.layers]
    assert [variable.path for variable in model.variables] == [variable.path for variable in loaded.variables]


@pytest.mark.parametrize("size", [64, 112])  # without and with maps of odd sides
def test_mobilenet_is_that_of_keras_applications(size):
    """Given its weights and the stem for large images, it computes what the original does."""
    ours = make_encoder("mobilenet_v2", (size, size, 3), width=0.35, stem="imagenet")
    theirs = keras.applications.MobileNetV2((size, size, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    values = {f"{layer.name}/{w.name}": w for layer in theirs.layers for w in layer.weights}
    for layer in ours.layers:
        for weight in layer.weights:
            weight.assign(values.pop(f"{layer.name}/{weight.name}"))
    assert not values
    x = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype("float32")
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stem", "side"), [("auto", 4), ("cifar", 4), ("imagenet", 1)])
def test_mobilenet_on_small_images(stem, side):
    fresh = functools.partial(make_encoder, "mobilenet_v2", (32, 32, 3), width=1 / 8, stem=stem)
    encoder = made("mobilenet_v2", "float32") if stem == "auto" else fresh()
    assert encoder.get_layer("representation").input.shape[1:3] == (side, side)


def test_vgg_is_plain():
    encoder = make_encoder("vgg11", (32, 32, 3), width=1 / 16)
    kinds = {type(layer).__name__ for layer in encoder.layers}
    assert kinds == {"InputLayer", "Conv2D", "SyncBatchNormalization", "ReLU", "MaxPooling2D", "GlobalAveragePooling2D"}
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in encoder.layers) == 8
    assert encoder.get_layer("representation").input.shape[1:3] == (2, 2)


@pytest.mark.parametrize("function", ["tiny", "custom"])
def test_models_of_the_users(nets, function):
    check(make_encoder(f"user_nets:{function}", (32, 32, 3)))
    if function == "tiny":
        assert sys.modules["user_nets"].SHAPES == [(32, 32, 3)]


@pytest.mark.parametrize("function", ["tiny", "custom"])
def test_a_model_of_the_users_is_the_same_each_time(nets, function):
    """Checkpoints find variables by their paths, which must not count the layers made before."""
    first = make_encoder(f"user_nets:{function}", (32, 32, 3))
    keras.layers.Conv2D(3, 3)
    second = make_encoder(f"user_nets:{function}", (32, 32, 3))
    checkpoints.restore(second.variables, checkpoints.collect(first.variables))
    np.testing.assert_array_equal(first(IMAGES), second(IMAGES))
    head = projection_head("nonlinear", 4, 4)
    assert len(checkpoints.collect([*second.variables, *head.variables])) == len(second.variables + head.variables)


def test_a_model_of_the_users_gets_the_runs_precision(nets):
    encoder = make_encoder("user_nets:tiny", (32, 32, 3), dtype="mixed_bfloat16")
    assert {layer.compute_dtype for layer in encoder.layers[1].layers} == {"bfloat16"}
    assert encoder.output.dtype == "float32" and keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("missing_nets:tiny", "PYTHONPATH"),
        ("user_nets:missing", "PYTHONPATH"),
        (":tiny", "PYTHONPATH"),
        ("user_nets:not_a_function", "must be a function"),
        ("user_nets:no_model", "must return a keras.Model.*Received: str"),
        ("user_nets:maps", r"vectors .*Received: \(None, 30, 30, 4\)"),
        ("user_nets:several", "vectors .*Received: list"),
        ("user_nets:other_size", "cannot be called with images of shape"),
        ("user_nets:same_names", "names of their own"),
        ("user_nets:nothing", "nothing to train"),
    ],
)
def test_what_is_no_encoder_is_named(nets, path, complaint):
    with pytest.raises(ValueError, match=f"(?s){complaint}.*" if "Received" in complaint else f"(?s){complaint}.*Rec"):
        make_encoder(path, (32, 32, 3))


@pytest.mark.parametrize(
    ("function", "why", "line"),
    [
        ("raises", "TypeError: unsupported operand", 1),
        ("refused_by_keras", "ValueError: The 'kernel_size' argument", 2),
        ("raises_when_called", "AttributeError: .*no_such_thing", 3),
    ],
)
def test_what_a_function_of_the_users_raises_is_one_line(nets, tmp_path, function, why, line):
    raising = [number for number, text in enumerate(NETS.splitlines(), start=1) if "# raises" in text]
    with pytest.raises(ValueError) as caught:
        make_encoder(f"user_nets:{function}", (32, 32, 3))
    where = re.escape(f"{tmp_path / 'user_nets.py'}:{raising[line - 1]}")
    assert re.fullmatch(rf"The .*user_nets:{function} .*, at {where}\. Received: {why}.*", str(caught.value))
    assert isinstance(caught.value.__cause__, Exception) and caught.value.__cause__.__traceback__


@pytest.mark.parametrize(("text", "why"), [("1 / 0", "broken_nets.py:1. .*ZeroDivisionError"), ("1 +", "SyntaxError")])
def test_a_module_of_the_users_that_raises_is_one_line(tmp_path, monkeypatch, text, why):
    (tmp_path / "broken_nets.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"^The encoder broken_nets:tiny cannot be imported .*{why}.*$"):
        make_encoder("broken_nets:tiny", (32, 32, 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("resnet19", (32, 32, 3)), "an encoder of .*: resnet19"), (("vgg11", (32, 32, 3), 1.0, "cifar"), "single stem"),
     (("vgg11", (8, 8, 3)), "at least 16 x 16"), (("mobilenet_v2", (32, 32, 3), 1.0, "nonsense"), "Received: nonsense")],
)  # fmt: skip
def test_impossible_settings(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_encoder(*arguments)
