"""Two views of each image of a batch, on the device (paper, algorithm 1)."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from simclr_tf._compat import HAS_XLA
from simclr_tf.augment.base import GENERATOR, Augmentation, to_float
from simclr_tf.augment.crops import RandomResizedCrop
from simclr_tf.augment.cuts import Cuts
from simclr_tf.distribution import num_replicas, replica_id

Segment = list[tuple[int, keras.Layer]]  # consecutive layers and their places in the view


class TwoViews:
    """Makes two random views of each image.

    Every draw is a pure function of the seed, the step, the view and the image's position in the global batch. So no
    random state has to be saved to resume a run, and the views do not depend on how many devices share the batch: each
    device draws the small parameter arrays of the whole global batch and takes its own part.

    XLA compiles the layers of this package and fuses their elementwise operations: on a CPU this is several times as
    fast as TensorFlow's own kernels. A layer with `reads_neighbors` is compiled by itself.

    The list may contain any other Keras or Keras-CV layer. It is called with float32 images (B, H, W, C) in [0, 1], with
    `training=True` if it has that argument. It is not compiled, and its randomness is its own: it may repeat on every
    replica, and a resumed run does not continue it.

    Args:
        layers: Augmentations of the first view, applied in order.
        seed: Seed of all random draws.
        second: Augmentations of the second view; those of the first if not given.
        compiled: Whether XLA compiles the layers.
        shared: Augmentations applied to each image once, before both views are made of the result.

    Raises:
        ValueError: If something in a list is not a layer.
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
        self.seed, self.compiled = seed, compiled
        self._same = second is None
        self._compile()

    @property
    def supports_jit(self) -> bool:
        """Whether XLA may compile a step that makes these views: not with layers of others."""
        return all(isinstance(layer, Augmentation) for layer in self.layers + self.second + self.shared)

    def _compile(self) -> None:
        def steps(of: Sequence[keras.Layer]) -> list[Callable]:
            return [_step(self, segment) for segment in _segments(of)]

        self._shared_steps, first_steps = steps(self.shared), steps(self.layers)
        # Without layers of its own, the second view is made by the same programs.
        self._steps = [first_steps, first_steps if self._same else steps(self.second)]

    def resize(self, size: int) -> bool:
        """Draws views of `size` x `size` pixels from now on; functions that were traced before keep the old size.

        Args:
            size: Side of the views in pixels.

        Returns:
            Whether that is another size than before.

        Raises:
            ValueError: If a view has no `RandomResizedCrop`, which is what resizes.
        """
        views = [self.shared] if any(map(_resizes, self.shared)) else [self.layers, self.second]
        crops = [next(filter(_resizes, view)) for view in views if any(map(_resizes, view))]
        if len(crops) < len(views):
            raise ValueError(
                "Views are resized by their crop: name one in `augmentations`, or leave `resolutions` out. "
                f"Received: {size} pixels, for views without a crop"
            )
        if any(crop.probability < 1.0 for crop in crops):
            raise ValueError(f"All images must be cropped to have one size. Received: {size} pixels, for some of them")
        if all(crop.size == size for crop in crops):
            return False
        for crop in crops:
            crop.size = size
        self._compile()
        return True

    def cuts(self, number: int = 2) -> Cuts | None:
        """The crops that begin the first `number` views, for a reader that cuts them out of the original images.

        Returns:
            None unless each of these views begins with a bilinear `RandomResizedCrop`, or the layers that they share do.
        """
        views = [self.shared] if self.shared else [self.layers, self.second][:number]
        offsets = self._offsets[2:] if self.shared else self._offsets
        first = [view[0] for view in views if view]
        crops = [layer for layer in first if isinstance(layer, RandomResizedCrop) and layer.cuts_only]
        return Cuts(self.seed, tuple(zip(crops, offsets, strict=False))) if len(crops) == len(views) else None

    @property
    def _offsets(self) -> tuple[int, int, int]:
        """Where the keys of each view's layers begin, and of those that they share: no two layers have the same key."""
        return 0, len(self.layers), len(self.layers) + len(self.second)

    def __call__(self, images: tf.Tensor, step: tf.Tensor | int) -> tf.Tensor:
        """Two views of each image.

        Args:
            images: This replica's part of the global batch, (B, H, W, C), uint8 or float in [0, 1]; or what a reader cut
                out of the original images, (B, V, H, W, C), by the boxes of `cuts`.
            step: Scalar integer; every step gives different views.

        Returns:
            float32 (2B, H, W, C) in [0, 1]: the first view of all images, then the second view of all images.

        Raises:
            ValueError: If the images have another rank, dtype or number of channels.
        """
        return tf.concat(self._views(images, step, 2), axis=0)

    def first(self, images: tf.Tensor, step: tf.Tensor | int) -> tf.Tensor:
        """The first view alone, float32 (B, H, W, C); args and raises as of a call."""
        return self._views(images, step, 1)[0]

    def _views(self, images: tf.Tensor, step: tf.Tensor | int, number: int) -> list[tf.Tensor]:
        images = tf.convert_to_tensor(images)
        if images.dtype.is_floating:  # unless XLA compiles the whole step, which leaves assertions out
            highest = tf.reduce_max(images)
            in_range = tf.debugging.Assert(
                ~(highest > 1.01), ["Float images must be in [0, 1]. Received: up to", highest]
            )
            with tf.control_dependencies(filter(None, [in_range])):  # None where it was checked at once
                images = tf.identity(images)
        cut = images.shape.rank == 5
        if cut and self.cuts(number) is None:
            raise ValueError(
                "Views that were cut by a reader, (B, V, H, W, C), must begin with a bilinear crop of every image. "
                f"Received: shape {tuple(images.shape)}"
            )
        parts = tf.unstack(images, axis=1) if cut else [images] * number
        count = images.shape[0] or tf.shape(images)[0]
        first = tf.cast(replica_id(), tf.int32) * count
        step, replicas = tf.cast(step, tf.int64), num_replicas()
        offsets = tf.constant(self._offsets)
        if self._shared_steps:
            image = parts[0]
            for apply in self._shared_steps:
                image = apply(image, step, offsets[2], first, replicas, cut)
            parts, cut = [image] * number, False
        return [self._view(view, parts[view], step, offsets[view], first, replicas, cut) for view in range(number)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, serialized."""
        second = None if self._same else self.second
        arguments = {"layers": self.layers, "seed": self.seed, "second": second, "compiled": self.compiled}
        return keras.saving.serialize_keras_object({**arguments, "shared": self.shared})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The inverse of `get_config`."""
        return cls(**keras.saving.deserialize_keras_object(config))

    def _view(self, view, images, *where):
        if not self._steps[view]:
            return to_float(images)
        for apply in self._steps[view]:
            images = apply(images, *where)
        return images

    def _augment(self, segment: Segment, images, step, offset, first, replicas, cut):
        """Applies layers of this package to this replica's images; returns (B, C, H, W).

        If `cut` is true, the images are crops already, and the layer that crops only resizes them.
        """
        planes = tf.unstack(to_float(images), axis=-1)
        count = images.shape[0] or tf.shape(images)[0]
        key = tf.random.fold_in([self.seed, 0], step, alg=GENERATOR)
        for place, layer in segment:
            shape = (*planes[0].shape[1:], len(planes))
            if cut and place == 0:
                planes = layer.resized(planes)
                continue
            drawn = layer.draw(tf.random.fold_in(key, offset + place, alg=GENERATOR), replicas * count, shape)
            mine = {
                name: tf.slice(value, [first] + [0] * (value.shape.rank - 1), [count, *value.shape[1:]])
                for name, value in drawn.items()
            }
            planes = layer.augment_planes(planes, mine)
        return tf.stack(planes, axis=1)


def _segments(layers: Sequence[keras.Layer]) -> Iterator[Segment]:
    """Cuts a view's layers into segments, each compiled as one program; a foreign layer is a segment by itself.

    So is a layer that reads neighbors: XLA would evaluate the preceding layers once for each neighbor, and all of it
    again each time a following layer uses the result.
    """
    segment: Segment = []
    for place, layer in enumerate(layers):
        if segment and (_alone(layer) or _alone(segment[-1][1])):
            yield segment
            segment = []
        segment.append((place, layer))
    if segment:
        yield segment


def _resizes(layer: keras.Layer) -> bool:
    return isinstance(layer, RandomResizedCrop)


def _alone(layer: keras.Layer) -> bool:
    return not isinstance(layer, Augmentation) or layer.reads_neighbors


def _step(views: TwoViews, segment: Segment) -> Callable:
    layer = segment[0][1]
    if isinstance(layer, Augmentation):

        def augment(*arguments):
            return views._augment(segment, *arguments)

        program = tf.function(augment, jit_compile=HAS_XLA, autograph=False) if views.compiled else augment
        # TensorFlow interleaves the channels, outside the program: on a CPU, XLA would fuse the transpose with the
        # arithmetic before it, which then no longer vectorizes.
        return lambda *arguments: tf.transpose(program(*arguments), [0, 2, 3, 1])

    arguments = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def foreign(images, *_):
        return tf.cast(layer(to_float(images), **arguments), tf.float32)

    return foreign
