"""What `mode=export` writes: each format loaded by a process that cannot import the project."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from simclr_tf.config import Export
from simclr_tf.encoders import load_encoder, weights_digest
from simclr_tf.evaluation import evaluate, export
from simclr_tf.exports.litert import _coarse
from simclr_tf.exports.served import LinearClassifier, of_stock_layers

MISSING = [name for name in ("tf2onnx", "onnxruntime", "ai_edge_litert") if importlib.util.find_spec(name) is None]
FORMATS = "saved_model,keras,onnx,litert,litert_int8"


def fresh(tiny_run, folder):
    """A copy of the run, without what other tests have left in it."""
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("evaluation", "features"))
    return folder


def judge(folder, digest=None):
    """Leaves a probe in the folder of a run, as `mode=linear` does; that of a run of one step would have huge weights."""
    encoder, rng = load_encoder(folder), np.random.default_rng(0)
    dim = encoder.output_shape[-1]
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    np.savez(
        evaluation / "linear_classifier.npz", mean=np.zeros(dim, np.float32), scale=np.ones(dim, np.float32),
        weights=rng.normal(size=(dim, 10)).astype(np.float32), bias=np.zeros(10, np.float32),
        class_names=np.array([f"class {index}" for index in range(10)]),
        encoder_digest=np.array(digest or weights_digest(encoder)),
    )  # fmt: skip
    record = {"dataset": "patterns", "mode": "linear", "top1": 0.1, "interval": [0.1, 0.1], "n_train": 5, "n_test": 5}
    record = json.dumps(record | {"encoder_digest_after": weights_digest(encoder)})
    (evaluation / "linear.json").write_text(record)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory, run_python):
    """A run whose encoder was judged and exported in all formats, what was printed, and images."""
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}")
    folder = fresh(tiny_run, tmp_path_factory.mktemp("exported") / "run")
    judge(folder)
    result = run_python("evaluate.py", f"--run_dir={folder}", "--mode=export", f"--format={FORMATS}")
    assert result.returncode == 0 and result.stderr == "", result.stderr
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    return folder, result.stdout, images


LOAD = """
import sys
sys.modules["simclr_tf"] = None  # importing it fails
import numpy as np
folder, images, out = sys.argv[1:]
images, found = np.load(images), {}

import onnxruntime
session = onnxruntime.InferenceSession(f"{folder}/encoder.onnx")
names = [output.name for output in session.get_outputs()]
found["onnx"] = dict(zip(names, session.run(None, {"images": images})))
found["onnx"]["class_name"] = session.get_modelmeta().custom_metadata_map["class_names"]

from ai_edge_litert.interpreter import Interpreter
for kind, file in (("litert", "encoder.tflite"), ("litert_int8", "encoder_int8.tflite")):
    embed, classify = map(Interpreter(f"{folder}/{file}").get_signature_runner, ("embed", "classify"))
    found[kind] = embed(images=images) | classify(images=images)

import tensorflow as tf
model, tensor = tf.saved_model.load(f"{folder}/encoder"), tf.constant(images)
found["saved_model"] = model.signatures["embed"](images=tensor) | model.signatures["classify"](images=tensor)
found["saved_model"]["class_name"] = found["saved_model"]["class_name"].numpy().astype(str)

import keras
found["keras"] = {"representation": keras.models.load_model(f"{folder}/encoder.keras").predict(images, verbose=0)}
np.savez(out, **{f"{kind}/{name}": np.asarray(value) for kind, each in found.items() for name, value in each.items()})
"""


@pytest.fixture(scope="module")
def loaded(exported, tmp_path_factory):
    """What a process that cannot import the project gets from each format, and the encoder's own h."""
    folder, _, images = exported
    out = tmp_path_factory.mktemp("loaded")
    np.save(out / "images.npy", images)
    subprocess.run([sys.executable, "-c", LOAD, folder, "images.npy", "found.npz"], cwd=out, check=True)
    expected = load_encoder(folder, precision="float32").predict(images / np.float32(255), verbose=0)
    return dict(np.load(out / "found.npz")), expected


@pytest.mark.parametrize("kind", FORMATS.split(","))
def test_every_format_gives_the_encoders_h_and_the_probes_classes(exported, loaded, kind):
    folder, (arrays, expected) = exported[0], loaded
    found = {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}
    # Eight bits are for a trained encoder; this one has made a single step.
    np.testing.assert_allclose(found["representation"], expected, atol=0.5 if kind == "litert_int8" else 1e-4, rtol=0)
    assert found["representation"].dtype == np.float32
    if kind == "keras":
        return
    with np.load(folder / "evaluation" / "linear_classifier.npz") as kept:
        logits = ((found["representation"] - kept["mean"]) * kept["scale"]) @ kept["weights"] + kept["bias"]
        names = kept["class_names"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    tolerance = 0.1 if kind == "litert_int8" else 1e-4
    np.testing.assert_allclose(found["probability"], powers / powers.sum(axis=1, keepdims=True), atol=tolerance)
    if kind == "saved_model":
        assert list(found["class_name"]) == list(names[found["probability"].argmax(axis=1)])
    if kind == "onnx":
        assert all(f'"{name}"' in str(found["class_name"]) for name in names)


def test_the_card_says_what_was_measured_and_how_to_load(exported):
    folder, printed, _ = exported
    card = (folder / "MODEL_CARD.md").read_text()
    for words in ("tests.tiny:encoder", "patterns", "| patterns | linear |", "onnxruntime", "TFSMLayer",
                  "for 0 of 1 epochs and 1 step, in batches of 64"):  # fmt: skip
        assert words in card, words
    assert "cosine similarity to float32" in card and "the same class for" in printed
    assert printed.splitlines()[-1] == str(folder / "MODEL_CARD.md")


def test_a_probe_of_another_encoder_is_not_exported(tiny_run, tmp_path):
    import tensorflow as tf

    folder = fresh(tiny_run, tmp_path / "run")
    judge(folder, "another")
    evaluate(folder, "export")
    assert sorted(tf.saved_model.load(str(folder / "encoder")).signatures) == ["embed", "serving_default"]
    assert "Nothing yet" not in (folder / "MODEL_CARD.md").read_text()  # the record of the judgment is of this encoder


def test_a_damaged_classifier_is_named(tiny_run, tmp_path):
    folder = fresh(tiny_run, tmp_path / "run")
    judge(folder)
    path = folder / "evaluation" / "linear_classifier.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"damaged.*Received: {path}"):
        evaluate(folder, "export", format="keras")


def test_a_probe_on_data_in_a_folder_like_layered_is_exported(tiny_run, tmp_path):
    folder = fresh(tiny_run, tmp_path / "run")
    judge(folder)
    (folder / "evaluation").rename(tmp_path / "layered-abc")
    (folder / "evaluation").mkdir()
    (tmp_path / "layered-abc").rename(folder / "evaluation" / "layered-abc")
    classifier, record = export._probe(folder, "", weights_digest(load_encoder(folder)))
    assert len(classifier.class_names) == 10 and record["mode"] == "linear"


def test_a_layer_of_the_head_has_files_of_its_own(tiny_run, tmp_path):
    import tensorflow as tf

    folder = fresh(tiny_run, tmp_path / "run")
    before = (folder / "encoder" / "saved_model.pb").read_bytes()
    evaluate(folder, "export", layer=2, format="saved_model,keras")
    assert (folder / "encoder" / "saved_model.pb").read_bytes() == before
    assert (folder / "MODEL_CARD_layer2.md").exists() and (folder / "encoder_layer2.keras").exists()
    found = tf.saved_model.load(str(folder / "encoder_layer2"))(np.zeros((2, 32, 32, 3), np.uint8))
    assert found.shape == (2, 128)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_stock_layers_compute_the_same(tiny_run, layer):
    encoder = load_encoder(tiny_run, layer)
    for variable in encoder.variables:  # statistics and offsets that a wrong order would show
        variable.assign(variable + 0.1 * np.random.default_rng(0).uniform(size=variable.shape))
    copy, images = of_stock_layers(encoder), np.random.default_rng(1).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    assert {type(layer).__module__.partition(".")[0] for layer in copy.layers} == {"keras"}
    np.testing.assert_allclose(copy(images), encoder(images), rtol=1e-4, atol=1e-5)


def test_bad_formats_are_refused_before_anything_is_written(tiny_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`format` must be of saved_model, .*Received: tflite"):
        Export(format="onnx,tflite")
    folder = fresh(tiny_run, tmp_path / "run")
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="`format=onnx` needs tf2onnx: `pip install tf2onnx`"):
        evaluate(folder, "export", format="keras,onnx")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_eight_bits_leave_out_what_varies_less_than_a_step():
    rng = np.random.default_rng(0)
    h = rng.uniform(0, 255, (50, 3)).astype(np.float32) * np.float32([1, 1, 1e-3])
    arrays = [h.mean(axis=0), 1 / h.std(axis=0), rng.normal(size=(3, 2)), rng.normal(size=2)]
    classifier = LinearClassifier(*(array.astype(np.float32) for array in arrays), ["a", "b"])
    np.testing.assert_array_equal(_coarse(classifier, h).scale, classifier.scale * [1, 1, 0])


@pytest.mark.slow
def test_a_saved_model_is_fine_tuned_above_its_frozen_probe(tmp_path, run_python):
    """In a process that cannot import the project, as a TFSMLayer in a new Keras model, on the data of the demo.

    With the default rate, temperature and crops, which here leave an encoder that can be improved.
    """
    weak = ["--learning_rate=1", "--temperature=0.5", "--crop_area=0.08", "--epochs=6"]
    run = run_python("train.py", "--flagfile=recipe:demo", *weak, f"--run_dir={tmp_path / 'run'}")
    assert run.returncode == 0, run.stderr
    record = evaluate(tmp_path / "run", "linear")
    from simclr_tf.data.patterns import load_patterns

    data = load_patterns()
    np.savez(tmp_path / "data.npz", images=data.train.array(), labels=data.train.labels,
             test_images=data.test.array(), test_labels=data.test.labels)  # fmt: skip
    tuned = subprocess.run([sys.executable, "-c", TUNE, tmp_path / "run" / "encoder", tmp_path / "data.npz"],
                           cwd=tmp_path, capture_output=True, text=True, check=True)  # fmt: skip
    assert float(tuned.stdout.split()[-1]) > record["top1"]


TUNE = """
import sys
sys.modules["simclr_tf"] = None
import keras, numpy as np
data = np.load(sys.argv[2])
images = keras.Input((32, 32, 3))
h = keras.layers.TFSMLayer(sys.argv[1], call_endpoint="serving_default")(images)["representation"]
model = keras.Model(images, keras.layers.Dense(10)(keras.layers.BatchNormalization()(h)))
assert len(model.trainable_weights) > 4
epochs = 12
steps = epochs * len(data["labels"]) // 128
rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=3e-4, warmup_steps=steps // 4)
optimizer = keras.optimizers.Adam(rate)
optimizer.build(model.trainable_variables)  # within fit, Keras would trip over the ":0" in the names of the variables
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(data["images"] / np.float32(255), data["labels"], epochs=epochs, batch_size=128, verbose=0)
print(model.evaluate(data["test_images"] / np.float32(255), data["test_labels"], verbose=0)[1])
"""
