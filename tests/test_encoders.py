"""The encoder of a run, restored from its checkpoint."""

from pathlib import Path

import keras
import numpy as np

from simclr_tf import encoders
from simclr_tf.config import Config, Network
from simclr_tf.tasks.pretrain import build_model
from simclr_tf.training import checkpoints
from simclr_tf.training.checkpoints import Checkpoint, Position


def test_random_layers_have_a_state_that_no_checkpoint_needs():
    layers = [keras.Input((8,)), keras.layers.Dropout(0.5, name="drop"), keras.layers.Dense(4, name="dense")]
    model = keras.Sequential(layers)
    assert len(model.variables) > len(model.weights)
    values = {path: np.full_like(array, 3) for path, array in checkpoints.collect(model.weights).items()}
    encoders._restored(model, Checkpoint(Position(1), values, {}, Path(), ()))
    np.testing.assert_array_equal(model.weights[0], np.full((8, 4), 3))


def test_loading_leaves_the_callers_seed_alone(tiny_run):
    """Otherwise a user's several seeds would be the same trial."""

    def drawn(seed):
        keras.utils.set_random_seed(seed)
        encoders.load_encoder(tiny_run)
        return np.random.random(), keras.random.normal(()).numpy()

    assert drawn(1) == drawn(1) and not set(drawn(1)) & set(drawn(2))
    first, same, other = (encoders.random_encoder(tiny_run, seed=seed).weights[0].numpy() for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_settings_reach_the_networks_and_the_views():
    network = Network(
        encoder="resnet18", width=1 / 16, stem="imagenet", projection_dim=7, projection_layers=2, projection_width=5,
        projection_bn=False, projection_last_bn=True,
    )  # fmt: skip
    encoder, head = encoders.build_encoder(network, (32, 32, 3)), encoders.build_head(network, 32)
    assert encoder.get_layer("stem_conv").kernel_size == (7, 7)
    assert [layer.units for layer in head.layers if isinstance(layer, keras.layers.Dense)] == [5, 5, 7]
    assert sum("Normalization" in type(layer).__name__ for layer in head.layers) == 1
    assert build_model(Config.of(seed=5, encoder="tests.tiny:encoder"), (16, 16, 3)).views.seed == 5
