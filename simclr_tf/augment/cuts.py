"""The crops that views begin with, for images that are cut while they are read."""

from dataclasses import dataclass

import tensorflow as tf

from simclr_tf.augment.base import GENERATOR, uniform
from simclr_tf.augment.crops import RandomResizedCrop

# Beyond any training step, so validation has its own views, the same in every epoch.
VALIDATION_STEP = 2**31 - 1


@dataclass(frozen=True)
class Cuts:
    """Draws the boxes of the crops that views begin with, as the layers do, for images of any size.

    Args:
        seed: Seed of the views.
        crops: The layer that crops, and the number of its key, for each of V views.
    """

    seed: int
    crops: tuple[tuple[RandomResizedCrop, int], ...]

    validation_step = VALIDATION_STEP

    @property
    def views(self) -> int:
        """How many boxes there are for an image, V."""
        return len(self.crops)

    def draws(self, step: tf.Tensor | int, count: int) -> tf.Tensor:
        """The draws that determine the boxes of a global batch of `count` images in a step, float32 (count, V, 4)."""
        key = tf.random.fold_in([self.seed, 0], tf.cast(step, tf.int64), alg=GENERATOR)
        drawn = [
            uniform([1 + crop.uniforms, count], tf.random.fold_in(key, tf.constant(number), alg=GENERATOR))[1:]
            for crop, number in self.crops
        ]
        return tf.transpose(tf.stack(drawn), [2, 0, 1])

    def boxes(self, draws: tf.Tensor, shapes: tf.Tensor) -> tf.Tensor:
        """The boxes of images.

        Args:
            draws: Their rows of `draws`, float32 (..., V, 4).
            shapes: Their heights and widths in pixels, int32 (..., 2).

        Returns:
            `top`, `left`, `height`, `width` in pixels, int32 (..., V, 4).
        """
        rows, columns = tf.unstack(tf.cast(shapes, tf.float32), axis=-1)
        boxes = []
        for (crop, _), u in zip(self.crops, tf.unstack(draws, axis=-2), strict=True):
            box = crop.parameters(tf.unstack(u, axis=-1), (rows, columns, 3))
            boxes.append(tf.stack([box[name] for name in ("top", "left", "height", "width")], axis=-1))
        return tf.cast(tf.stack(boxes, axis=-2), tf.int32)
