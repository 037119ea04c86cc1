"""Views of a lower resolution in earlier parts of a run: more epochs at the same cost (https://arxiv.org/abs/2212.05611)."""

from collections.abc import Sequence

import keras


class Resolutions(keras.callbacks.Callback):
    """Draws the views of equal parts of a run at one resolution each.

    A step at half the side costs a quarter of one at the full side in a convolutional encoder, and the crop, a product
    with a matrix, outputs any size at no extra cost. The validation loss is taken at the resolution of the epoch.

    Args:
        sides: Sides of the views in pixels, in order, the last being that of the images.
        epochs: Epochs of the whole run.
    """

    def __init__(self, sides: Sequence[int], epochs: int):
        super().__init__()
        self._sides, self._epochs = sides, epochs

    def side(self, epoch: int) -> int:
        """The side of the views in an epoch, counted from 0."""
        return self._sides[epoch * len(self._sides) // self._epochs]

    def on_epoch_begin(self, epoch, logs=None):
        """Changes the resolution where the epoch begins another part."""
        if self.model.views.resize(self.side(epoch)):
            # Keras keeps its traced functions for the whole of fit.
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)
