"""Two views of each image of a batch, on the device (paper, algorithm 1)."""

import inspect
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.augment.base import GENERATOR, Augmentation, to_float, to_planes
from simclr_tf.distribution import num_replicas, replica_id

Run = list[tuple[int, keras.Layer]]  # layers and their places in the view


class TwoViews:
    """Makes two random views of each image.

    Every draw is a pure function of the seed, the step, the view and the image's position in the global batch. So
    nothing about the randomness has to be saved to resume a run, and the views do not depend on how many devices share
    the batch: each draws the small parameter arrays of the whole global batch and takes its own part.

    The layers of this package are compiled by XLA, which fuses the elementwise operations of all of them: on a CPU this
    is several times as fast as TensorFlow's own kernels. A layer that `reads_neighbours` is a program of its own.

    Any other Keras or Keras-CV layer may stand in the list. It is called with float32 images (B, H, W, C) in [0, 1],
    with `training=True` if it knows that argument, is not compiled, and its randomness is its own: it may repeat on
    every replica, and a resumed run does not continue it.

    Args:
        layers: the augmentations of the first view, applied in order.
        seed: of all draws.
        second: those of the second view, where they differ.
        compiled: whether XLA compiles.
        shared: what is done to each image first, and once: both views are made of the result.

    Raises:
        ValueError: on something that is no layer.
    """

    def __init__(
        self,
        layers: Sequence[keras.Layer],
        seed: int = 0,
        second: Sequence[keras.Layer] | None = None,
        compiled: bool = True,
        shared: Sequence[keras.Layer] = (),
    ):
        self.layers, self.second = list(layers), list(layers if second is None else second)
        self.shared = list(shared)
        for layer in self.layers + self.second + self.shared:
            if not isinstance(layer, keras.Layer):
                raise ValueError(f"Augmentations must be Keras layers. Received: {layer!r}")
        self.seed = seed

        def steps(of: Sequence[keras.Layer]) -> list[Callable]:
            return [_step(self, run, compiled) for run in _runs(of)]

        self._shared_steps, first_steps = steps(self.shared), steps(self.layers)
        # Without layers of its own, the second view is made by the same programs.
        self._steps = [first_steps, first_steps if second is None else steps(self.second)]

    def __call__(self, images: tf.Tensor, step: tf.Tensor | int) -> tf.Tensor:
        """Two views of each image.

        Args:
            images: this replica's part of the global batch, (B, H, W, C), uint8 or float in [0, 1].
            step: scalar integer; another step gives other views.

        Returns:
            float32 (2B, H, W, C) in [0, 1]: the first view of all images, then the second of all.

        Raises:
            ValueError: on images of another rank, dtype or number of channels.
        """
        count = images.shape[0] or tf.shape(images)[0]
        first = tf.cast(replica_id(), tf.int32) * count
        step, replicas = tf.cast(step, tf.int64), num_replicas()
        # Keys continue from the first view to the second and the shared layers, so no two layers have one in common.
        offsets = tf.constant([0, len(self.layers), len(self.layers) + len(self.second)])
        for apply in self._shared_steps:
            images = apply(images, step, offsets[2], first, replicas)
        return tf.concat([self._view(view, images, step, offsets[view], first, replicas) for view in range(2)], axis=0)

    def _view(self, view, images, *where):
        if not self._steps[view]:
            return to_float(images)
        for apply in self._steps[view]:
            images = apply(images, *where)
        return images

    def _augment(self, run: Run, images, step, offset, first, replicas):
        """Applies layers of this package to this replica's images; returns (B, C, H, W)."""
        images = to_float(images)
        count, shape = images.shape[0] or tf.shape(images)[0], tuple(images.shape[1:])
        key = tf.random.fold_in([self.seed, 0], step, alg=GENERATOR)
        planes = to_planes(images)
        for place, layer in run:
            drawn = layer.draw(tf.random.fold_in(key, offset + place, alg=GENERATOR), replicas * count, shape)
            mine = {
                name: tf.slice(value, [first] + [0] * (value.shape.rank - 1), [count, *value.shape[1:]])
                for name, value in drawn.items()
            }
            planes = layer.augment_planes(planes, mine)
        return tf.stack(planes, axis=1)


def _runs(layers: Sequence[keras.Layer]) -> Iterator[Run]:
    """Cuts a view's layers into runs that are compiled as one; a foreign layer is a run by itself.

    A layer that reads neighbours is one, too: XLA would evaluate what precedes it once for each of them, and all of it
    again for each use of its result by what follows.
    """
    run: Run = []
    for place, layer in enumerate(layers):
        if run and (_alone(layer) or _alone(run[-1][1])):
            yield run
            run = []
        run.append((place, layer))
    if run:
        yield run


def _alone(layer: keras.Layer) -> bool:
    return not isinstance(layer, Augmentation) or layer.reads_neighbours


def _step(views: TwoViews, run: Run, compiled: bool) -> Callable:
    layer = run[0][1]
    if isinstance(layer, Augmentation):

        def augment(*arguments):
            return views._augment(run, *arguments)

        program = tf.function(augment, jit_compile=HAS_XLA) if compiled else augment
        # Interleaving the channels is left to TensorFlow: within the program, XLA on a CPU fuses it with the arithmetic
        # before it, which then no longer vectorises.
        return lambda *arguments: tf.transpose(program(*arguments), [0, 2, 3, 1])

    arguments = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def foreign(images, *_):
        return tf.cast(layer(to_float(images), **arguments), tf.float32)

    return foreign
