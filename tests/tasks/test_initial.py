import keras
import numpy as np
import pytest

from simclr_tf import encoders
from simclr_tf.augment import TwoViews
from simclr_tf.exports.saved_model import write_saved_model
from simclr_tf.networks import make_encoder, projection_head
from simclr_tf.tasks.initial import take_over
from simclr_tf.tasks.simclr import SimCLR
from tests import tiny

SHAPE = (32, 32, 3)


def imported(shape):
    return make_encoder("tests.tiny:encoder", shape)


def make_model(build=imported):
    """The networks of the tiny run, with other weights."""
    keras.utils.set_random_seed(1)
    encoder = build(SHAPE)
    return SimCLR(encoder, projection_head("nonlinear", encoder.output_shape[-1]), TwoViews([]))


def same(model, other, scope=""):
    """Paths of the encoder's variables that are equal in both."""
    values = {scope + variable.path: variable.numpy() for variable in other.variables}
    return {v.path for v in model.encoder.variables if np.array_equal(v.numpy(), values[v.path])}


@pytest.fixture(scope="module")
def source(tiny_run):
    return encoders.load_encoder(tiny_run)


def test_from_a_run(tiny_run, source):
    model = make_model()
    note = take_over(model, tiny_run)
    assert same(model, source) == {variable.path for variable in source.variables}
    count = len(model.encoder.variables) + len(model.head.variables)
    assert note == f"init_from: took over {count} of {count} variables of {tiny_run}"


def test_from_a_saved_model_a_keras_file_and_weights(tmp_path):
    source = tiny.encoder(SHAPE)
    write_saved_model(source, tmp_path / "encoder")
    source.save(tmp_path / "encoder.keras")
    source.save_weights(tmp_path / "encoder.weights.h5")
    for path in (tmp_path / "encoder", tmp_path / "encoder.keras", tmp_path / "encoder.weights.h5"):
        model = make_model(tiny.encoder)
        head = [variable.numpy() for variable in model.head.variables]
        note = take_over(model, path)
        assert same(model, source) == {variable.path for variable in source.variables}, path
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(head, model.head.variables, strict=True))
        assert "not there, or of another shape: hidden/kernel" in note


def test_a_model_made_elsewhere_is_taken_over_by_its_function(tmp_path):
    """The paths of an imported encoder's variables have a scope before them, which a Keras file does not have."""
    source = tiny.encoder(SHAPE)
    source.save(tmp_path / "theirs.keras")
    model = make_model()
    assert "took over" in take_over(model, tmp_path / "theirs.keras")
    assert same(model, source, "encoder/") == {f"encoder/{variable.path}" for variable in source.variables}


def test_variables_of_another_shape_are_left_and_named(tiny_run):
    model = make_model(tiny.wide)
    with pytest.raises(ValueError, match=r"no variable of the name and shape.*kernel \(3, 3, 3, 16\)"):
        take_over(model, tiny_run)


@pytest.mark.parametrize("name", ["", "nothing", "nothing.weights.h5", "text.keras"])
def test_what_is_no_source_is_refused(name, tmp_path):
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ValueError, match="`init_from` .*Received: "):
        take_over(make_model(), tmp_path / name)


@pytest.mark.slow
def test_a_run_begins_where_the_other_ended(tiny_run, run_python, tmp_path):
    flags = ["--dataset=patterns", "--encoder=tests.tiny:encoder", "--batch_size=64", "--epochs=1", "--max_steps=1",
             "--learning_rate=1e-9", "--lr_scaling=none", "--warmup_epochs=0"]  # fmt: skip
    result = run_python("train.py", *flags, f"--run_dir={tmp_path / 'new'}", f"--init_from={tiny_run}")
    assert result.returncode == 0, result.stderr
    assert "note     init_from: took over" in result.stdout
    old, new = (encoders.load_encoder(folder).variables for folder in (tiny_run, tmp_path / "new"))
    for before, after in zip(old, new, strict=True):
        if "moving" not in before.path:
            np.testing.assert_allclose(after.numpy(), before.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_keras_file_with_a_layer_that_keras_does_not_know_is_refused(tmp_path):
    class Unknown(keras.layers.Layer):
        pass

    keras.Sequential([keras.Input((32, 32, 3)), Unknown()]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="`init_from` cannot be loaded .*Unknown.*Received: .*model.keras"):
        take_over(make_model(), str(tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Lambda"):
        take_over(make_model(), str(tmp_path / "model.keras"))
