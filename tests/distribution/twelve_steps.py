"""Writes the states of twelve float64 steps on a global batch of 8 images, shared by some number of replicas.

    python twelve_steps.py REPLICAS OUTPUT.npz CASE

A script, because a process can have only one strategy. The case trains through `fit`, with augmentation, LARS and weight
decay; the state is recorded after some of the steps, with the gradients that the optimizer saw. The networks are float64
from end to end: the float32 of h and z would erase what is smaller than its rounding.
"""

import sys

import simclr_tf.quiet  # noqa: F401

# isort: split
import keras
import numpy as np

from simclr_tf import config as c
from simclr_tf.augment import TwoViews, policy, simclr
from simclr_tf.config.pretraining import LOSS_NAMES, PROJECTION_NAMES
from simclr_tf.data.pipeline import ordered_batches, training_batches
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.distribution import make_strategy
from simclr_tf.networks import projection_head, resnet
from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.objectives import Objective
from simclr_tf.optimizers import LARS
from simclr_tf.tasks.simclr import SimCLR
from simclr_tf.training.checkpoints import collect

BATCH, SIZE, STEPS, DTYPE = 8, 16, 12, "float64"
RECORDED = (1, 3, STEPS)
# name: encoder, head, objective
CASES = {
    "resnet18": ("resnet18", "nonlinear", c.Loss()),
    **{f"head {head}": ("small", head, c.Loss()) for head in PROJECTION_NAMES if head != "nonlinear"},
    **{f"loss {loss}": ("small", "nonlinear", c.Loss(loss=loss)) for loss in LOSS_NAMES},
    "semi-hard": ("small", "nonlinear", c.Loss(loss="margin_triplet", semi_hard=True)),
    "learned similarity": ("small", "nonlinear", c.Loss(similarity="bilinear")),
}


class RecordingLARS(LARS):
    """LARS that keeps the gradients of its last step."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.seen = self.add_optimizer_variables(variables, "gradient")

    def update_step(self, gradient, variable, learning_rate):
        self.assign(self.seen[self._get_variable_index(variable)], gradient)
        super().update_step(gradient, variable, learning_rate)


class Record(keras.callbacks.Callback):
    """Keeps the state after each epoch, which has one step here."""

    def __init__(self):
        super().__init__()
        self.states = {}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 not in RECORDED:
            return
        state = collect([*self.model.weights, *self.model.optimizer.variables])
        self.states |= {f"{epoch + 1}/{path}": array for path, array in state.items()}
        self.states |= {f"{epoch + 1}/logs/{name}": np.float64(value) for name, value in logs.items()}


def in_float64(model):
    """The same network, with its float32 layers in float64 as well."""
    return keras.models.clone_model(
        model,
        keras.Input(model.input_shape[1:], dtype=DTYPE),
        clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": DTYPE}),
    )


def small_encoder():
    """Two convolutions of different resolutions, each with batch norm."""
    x = images = keras.Input((SIZE, SIZE, 3))
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, 2, "same", use_bias=False, dtype=DTYPE)(x)
        x = keras.layers.ReLU(dtype=DTYPE)(SyncBatchNormalization(dtype=DTYPE)(x))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D(dtype=DTYPE)(x), name="small")


def train(case, strategy, views, split):
    """The recorded states of a case."""
    name, head, settings = case
    keras.utils.set_random_seed(0)
    with strategy.scope():
        encoder = small_encoder() if name == "small" else resnet(name, (SIZE, SIZE, 3), 1 / 8, dtype=DTYPE)
        g = projection_head(head, encoder.output_shape[-1], 8, dtype=DTYPE)
        encoder, g = in_float64(encoder), in_float64(g)
        objective = Objective(**vars(settings), dtype=DTYPE)
        objective.build(g.output_shape)
        model = SimCLR(encoder, g, views, objective)
        optimizer = RecordingLARS(0.5, weight_decay=1e-2)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer)
    record, shares = Record(), strategy.distribute_datasets_from_function
    model.fit(
        shares(lambda context: training_batches(split, BATCH, 0, context=context)),
        epochs=STEPS,
        steps_per_epoch=1,
        validation_data=shares(lambda context: ordered_batches(split, BATCH, True, context)),
        validation_steps=2,
        callbacks=[record],
        verbose=0,
    )
    return record.states


def main(replicas, path, name):
    strategy = make_strategy(c.Hardware(strategy="mirrored" if replicas > 1 else "single", logical_cpus=replicas))
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    # All augmentations take long to compile.
    views = TwoViews(simclr(blur=True) if name == "resnet18" else policy("crop,flip"), seed=1)
    states = train(CASES[name], strategy, views, Split(ArrayImages(images)))
    np.savez(path, replicas=strategy.num_replicas_in_sync, **states)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
