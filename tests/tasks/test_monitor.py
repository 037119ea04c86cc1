import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import TwoViews, simclr
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.inspect.geometry import effective_rank
from simclr_tf.inspect.nearest import TEMPERATURE, vote
from simclr_tf.networks import projection_head
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.monitor import Monitor
from simclr_tf.tasks.simclr import SimCLR

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), np.uint8)
LABELS = (np.arange(32) % 2).astype(np.int32)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(images)
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    model = SimCLR(encoder, projection_head("nonlinear", 6, 4), TwoViews(simclr(), compiled=False))
    model.compile(LARS(0.1))
    return model


class Kept(keras.callbacks.Callback):
    """What comes after the monitor sees its measures."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


def fit(model, folder, watched, epochs=4, every=2, stop=False):
    kept = Kept()
    monitor = Monitor(watched, watched, every, stop, 0.5, folder)
    model.fit(IMAGES, batch_size=16, epochs=epochs, callbacks=[monitor, kept], verbose=0)
    return kept.logs


def test_every_few_epochs_are_measured(model, tmp_path):
    logs = fit(model, tmp_path, Split(ArrayImages(IMAGES), LABELS))
    measures = {"knn", "rank", "alignment", "uniformity"}
    assert [measures <= set(epoch) for epoch in logs] == [False, True, False, True]
    h = model.encoder(IMAGES.astype(np.float32) / 255).numpy()
    assert logs[-1]["uniformity"] < 0 < logs[-1]["alignment"]
    assert logs[-1]["rank"] == pytest.approx(effective_rank(h), rel=1e-4)
    votes = vote(h, h, LABELS, 2, ks=[20], temperature=TEMPERATURE)[20]
    assert logs[-1]["knn"] == (votes.argmax(axis=1) == LABELS).mean()
    assert {"rank", "spread"} == set(json.loads((tmp_path / "monitor.json").read_text()))


def test_no_dataset_is_made_while_training(model, tmp_path, monkeypatch):
    """TensorFlow keeps the kernels of each of them, so that a long run would grow."""
    split = Split(ArrayImages(IMAGES), LABELS)
    monitor = Monitor(split, split, 1, False, 0.5, tmp_path)
    monitor.set_model(model)
    monkeypatch.setattr(tf.data.Dataset, "map", lambda *_, **__: pytest.fail("a dataset was made"))
    monitor.on_train_begin()
    logs: dict = {}
    monitor.on_epoch_end(0, logs)
    assert logs["rank"] > 0


def test_projector_files_belong_together(model, tmp_path):
    fit(model, tmp_path, Split(ArrayImages(IMAGES), LABELS), epochs=1)
    folder = tmp_path / "tensorboard"
    assert np.loadtxt(folder / "h.tsv").shape == (32, 6)
    assert (folder / "labels.tsv").read_text().split() == [str(label) for label in LABELS]
    paths = re.findall(r'path: "(.*?)"', (folder / "projector_config.pbtxt").read_text())
    assert paths == ["h.tsv", "labels.tsv"]


def test_images_without_labels_have_no_knn(model, tmp_path):
    logs = fit(model, tmp_path, Split(ArrayImages(IMAGES)), epochs=2)
    assert "rank" in logs[-1] and "knn" not in logs[-1]
    assert not (tmp_path / "tensorboard" / "labels.tsv").exists()


@pytest.mark.parametrize("stop", [False, True])
def test_collapse_is_told_by_comparison_with_the_initial_weights(model, tmp_path, stop, capsys):
    class Collapse(keras.callbacks.Callback):
        """Makes all representations alike before the monitor looks."""

        def on_epoch_end(self, epoch, logs=None):
            for weight in self.model.encoder.weights:
                weight.assign(0 * weight + (1.0 if len(weight.shape) == 1 else 1e-6))

    monitor = Monitor(Split(ArrayImages(IMAGES)), Split(ArrayImages(IMAGES)), 1, stop, 0.5, tmp_path)
    run = lambda: model.fit(IMAGES, batch_size=16, epochs=1, callbacks=[Collapse(), monitor], verbose=0)  # noqa: E731
    if stop:
        with pytest.raises(FloatingPointError, match="collapsed.*Lower `learning_rate`.*Received: `on_collapse=stop`"):
            run()
    else:
        run()
        assert "warning  The projections have collapsed" in capsys.readouterr().out
