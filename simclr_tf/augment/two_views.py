"""Two views of each image of a batch, on the device (paper, algorithm 1)."""

from collections.abc import Sequence

import tensorflow as tf

from simclr_tf.augment.base import GENERATOR, Augmentation, to_float
from simclr_tf.distribution import num_replicas, replica_id


class TwoViews:
    """Makes two random views of each image.

    Every draw is a pure function of the seed, the step, the view and the image's position in the global batch. So
    nothing about the randomness has to be saved to resume a run, and the views do not depend on how many devices share
    the batch: each draws the small parameter arrays of the whole global batch and takes its own part.

    All of it is compiled by XLA, which fuses the elementwise operations of all augmentations: on a CPU this is about
    four times as fast as TensorFlow's own kernels.

    Args:
        layers: the augmentations, applied in order to both views.
        seed: of all draws.
    """

    def __init__(self, layers: Sequence[Augmentation], seed: int = 0):
        self.layers = list(layers)
        self.seed = seed
        self._compiled = tf.function(self._make, jit_compile=True)

    def __call__(self, images: tf.Tensor, step: tf.Tensor | int) -> tf.Tensor:
        """Two views of each image.

        Args:
            images: this replica's part of the global batch, (B, H, W, C), uint8 or float in [0, 1].
            step: scalar integer; another step gives other views.

        Returns:
            float32 (2B, H, W, C) in [0, 1]: the first view of all images, then the second of all.
        """
        count = images.shape[0] or tf.shape(images)[0]
        first = tf.cast(replica_id(), tf.int32) * count
        return self._compiled(images, tf.cast(step, tf.int64), first, num_replicas())

    def _make(self, images, step, first, replicas):
        images = to_float(images)
        key = tf.random.fold_in([self.seed, 0], step, alg=GENERATOR)
        return tf.concat([self._view(images, key, view, first, replicas) for view in range(2)], axis=0)

    def _view(self, images, key, view, first, replicas):
        count = images.shape[0] or tf.shape(images)[0]
        for index, layer in enumerate(self.layers):
            layer_key = tf.random.fold_in(key, view * len(self.layers) + index, alg=GENERATOR)
            drawn = layer.draw(layer_key, replicas * count, tuple(images.shape[1:]))
            mine = {
                name: tf.slice(value, [first] + [0] * (value.shape.rank - 1), [count, *value.shape[1:]])
                for name, value in drawn.items()
            }
            images = layer.augment_images(images, mine)
        return images
