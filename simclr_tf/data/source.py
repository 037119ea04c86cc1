"""The contract between readers and everything else: a `Dataset` of `Split`s, whose images come from a `Source`.

A source says how many images it has, how large they are, and which they are. Any of `Images` can be read at any time;
`StreamImages` come one after another, in an order of their own. `pipeline` makes batches of either.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from simclr_tf.data import decode

LOST = "Images cannot be decoded"  # how the message about them begins
UNDECODABLE = "its pixels cannot be decoded"

NAMED_AT_MOST = 10  # damaged files, in a message

CORES = os.cpu_count() or 1  # images that are decoded at a time

Order = tuple[int, tf.Tensor]  # the seed, and the epoch as an int64 scalar
Shape = tuple[int, int, int]  # (H, W, C)


class Images(Protocol):
    """N images of one size, any of which can be read at any time."""

    image_shape: Shape  # of every image as it is read

    def __len__(self) -> int:
        """The number of images."""

    def fingerprint(self) -> str:
        """A digest that tells these images, in this order, from others."""

    def stamp(self) -> str:
        """A digest that changes when the content does, also of files that kept their names."""
        return self.fingerprint()

    def take(self, indices: np.ndarray) -> "Images":
        """The chosen images, in the order of `indices`, int (M,)."""

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (B,) -> uint8 (B, H, W, C), eagerly or inside a tf.data map; static in H, W, C, and in B if given."""


def on_cpu(array: np.ndarray) -> tf.Tensor:
    """Copies an array into an eager tensor, on the CPU because that is where tf.data runs.

    A tf.data map captures the tensor, whereas it would write the array into its graph as a constant, which every
    rewrite of the graph copies.
    """
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.constant(array)


class ArrayImages(Images):
    """Images held in memory.

    Args:
        images: uint8 (N, H, W, C).

    Raises:
        ValueError: If they are of another rank or dtype.
    """

    def __init__(self, images: np.ndarray) -> None:
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                f"Images must be a uint8 array of shape (N, H, W, C). Received: {images.dtype} of shape {images.shape}"
            )
        self._tensor = on_cpu(images)
        self.image_shape = images.shape[1:]

    def __len__(self) -> int:
        """The number of images."""
        return self._tensor.shape[0]

    def fingerprint(self) -> str:
        """SHA-256 of the shape and the pixels."""
        digest = hashlib.sha256(f"{self._tensor.shape}".encode())
        digest.update(memoryview(self._tensor))
        return digest.hexdigest()

    def take(self, indices: np.ndarray) -> "ArrayImages":
        """The chosen images, copied."""
        return ArrayImages(np.asarray(memoryview(self._tensor))[indices])

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (B,) -> uint8 (B, H, W, C)."""
        return tf.gather(self._tensor, indices)


class EncodedImages(Images):
    """Images that are kept encoded, each decoded when it is read.

    Args:
        shapes: Height and width of each image as it is to be seen, int32 (N, 2).
        orientations: EXIF orientation of each image, int32 (N,).
        image_size: Side of the square images, in pixels.
        larger: Whether to cut views out of the original images; by default, if one of them has a shorter side that is
            longer than `image_size`.

    Attributes:
        larger: Whether views should be cut out of the original images, because these are larger than `image_shape`.
        shapes: Height and width of each image as it is to be seen, int32 (N, 2).
        orientations: EXIF orientation of each image, int32 (N,).
    """

    def __init__(
        self, shapes: np.ndarray, orientations: np.ndarray, image_size: int, larger: bool | None = None
    ) -> None:
        self.image_shape = image_size, image_size, 3
        self.larger = bool(shapes.min(axis=1).max(initial=0) > image_size) if larger is None else larger
        self.shapes, self.orientations = on_cpu(shapes), on_cpu(orientations)

    @property
    def decoders(self) -> int | None:
        """How many images to decode at a time; None for one after another."""
        return CORES

    def take(self, indices: np.ndarray) -> "EncodedImages":
        """The chosen images, in the order of `indices`, int (M,)."""
        raise NotImplementedError

    def fetched(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Fetches images, in order and several at a time, by TensorFlow's operations alone.

        Args:
            rows: Tuples of an index, int64 (), and anything else.

        Returns:
            Tuples of what `contents` takes, string (); the EXIF orientation, int32 (); and what was in the row.
        """
        raise NotImplementedError

    def contents(self, fetched: tf.Tensor) -> tf.Tensor:
        """What was fetched -> the encoded image, string (), inside a tf.data map, where a failure is this image's alone."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        raise NotImplementedError

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Int64 (B,) -> the center squares, uint8 (B, H, W, C), eagerly.

        Raises:
            ValueError: If some cannot be decoded.
        """
        chosen = self.take(np.asarray(indices))
        pixels, read = chosen.each()
        if not read.all():
            raise ValueError(lost([chosen.name(int(index)) for index in np.flatnonzero(~read)]))
        return tf.constant(pixels)

    def each(self) -> tuple[np.ndarray, np.ndarray]:
        """The center squares of all images, uint8 (N, H, W, C), and whether each could be decoded, bool (N,)."""
        nothing = (tf.zeros(self.image_shape, tf.uint8), False)

        def center(fetched: tf.Tensor, orientation: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, bool]:
            return decode.whole(self.contents(fetched), orientation, self.image_shape[0]), True

        def read(index: tf.Tensor) -> tf.data.Dataset:
            return self.first_without_error(tf.data.Dataset.from_tensors((index,)), 1, center, nothing)

        if not len(self):
            return np.zeros((0, *self.image_shape), np.uint8), np.zeros(0, bool)
        images = in_parallel(tf.data.Dataset.range(len(self)), read, self.decoders)
        pixels, done = images.batch(len(self)).get_single_element()
        return pixels.numpy(), done.numpy()

    def first_without_error(
        self, rows: tf.data.Dataset, count: int, decode_one: Callable[..., Any], otherwise: Any
    ) -> tf.data.Dataset:
        """What `decode_one` makes of the first image that can be decoded: a dataset of one element.

        Args:
            rows: Rows of `fetched`, to be tried in order.
            count: How many there are.
            decode_one: Function of what `fetched` makes of a row.
            otherwise: What to yield if all of them fail; of the same structure.
        """
        # Fetched together, out of reach of `ignore_errors`: a file that cannot be opened fails for ever.
        fetched = self.fetched(rows).batch(count, drop_remainder=True)
        tried = fetched.flat_map(lambda *rows: tf.data.Dataset.from_tensor_slices(rows).map(decode_one).ignore_errors())
        return tried.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1)


def in_parallel(rows: tf.data.Dataset, read: Callable[..., tf.data.Dataset], at_a_time: int | None) -> tf.data.Dataset:
    """The single element that `read` yields for each row, in order; `at_a_time` rows at once, or one by one if it is None.

    Not a map that takes the element out of the dataset: it leaves threads behind each time it is made.
    """
    if at_a_time is None:
        return rows.flat_map(read)
    return rows.interleave(read, at_a_time, 1, at_a_time, deterministic=True)


def lost(names: Sequence[str], limit: int = 0) -> str:
    """The message about images that cannot be decoded, if no more than `limit` of them may be replaced by others."""
    some = ", ".join(names[:NAMED_AT_MOST]) + (f" and {len(names) - NAMED_AT_MOST} more" * (len(names) > NAMED_AT_MOST))
    allowed = f", {len(names)} of them where `max_bad_files` allows {limit}" if limit else ""
    return f"{LOST}{allowed}: remove these files or replace them. Received: {some}"


class StreamImages:
    """Images that come in an order of their own, such as those of a `tf.data.Dataset`.

    Args:
        stream: From an `Order`, or from None for the images' own order, to a finite dataset of uint8 images (H, W, C),
            or of pairs of such an image and its label, int32 (). Equal orders must give equal sequences.
        count: Number of images in it.
        image_shape: (H, W, C) of every image.
        name: Name that tells these images from others when a run is resumed.

    Attributes:
        labeled: Whether each image comes with its label.

    Raises:
        ValueError: If the dataset has elements of another kind.
    """

    def __init__(
        self, stream: Callable[[Order | None], tf.data.Dataset], count: int, image_shape: Shape, name: str
    ) -> None:
        self.stream, self.image_shape, self._count, self._name = stream, image_shape, count, name
        image, label = tf.TensorSpec(image_shape, tf.uint8), tf.TensorSpec((), tf.int32)
        found = stream(None).element_spec
        if found not in (image, (image, label)):
            raise ValueError(f"A stream must be of {image}, alone or with {label}. Received: {found}")
        self.labeled = isinstance(found, tuple)

    def __len__(self) -> int:
        """The number of images."""
        return self._count

    def fingerprint(self) -> str:
        """A digest of the name and the count."""
        return hashlib.sha256(f"{self._name} {self._count}".encode()).hexdigest()

    def stamp(self) -> str:
        """The fingerprint: whoever names a stream vouches for its content."""
        return self.fingerprint()


Source = Images | StreamImages


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Args:
        images: Source of N images.
        labels: int32 (N,), each at least 0; None for unlabeled images and for a stream, which brings its own.

    Raises:
        ValueError: If images and labels do not belong together.
    """

    images: Source
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks the labels."""
        if self.labels is None:
            return
        if isinstance(self.images, StreamImages):
            raise ValueError("A stream brings its own labels. Received: a stream, and labels beside it")
        if self.labels.dtype != np.int32 or self.labels.shape != (len(self.images),):
            raise ValueError(
                f"Labels must be int32 of shape ({len(self.images)},), one for each image. "
                f"Received: {self.labels.dtype} of shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> Shape:
        """(H, W, C) of every image."""
        return self.images.image_shape

    @property
    def labeled(self) -> bool:
        """Whether every image has a label."""
        return self.labels is not None or (isinstance(self.images, StreamImages) and self.images.labeled)

    @property
    def larger(self) -> bool:
        """Whether views should be cut out of the original images, which are larger than `image_shape`."""
        return isinstance(self.images, EncodedImages) and self.images.larger

    def take(self, indices: np.ndarray) -> "Split":
        """The chosen images with their labels, in the order of `indices`, int (M,).

        Raises:
            ValueError: If the images can only be streamed.
        """
        labels = None if self.labels is None else self.labels[indices]
        return Split(self._random_access().take(indices), labels)

    def array(self) -> np.ndarray:
        """All images at once, uint8 (N, H, W, C): for a few of them, as for a picture.

        Raises:
            ValueError: If the images can only be streamed.
        """
        return self._random_access().read(tf.range(len(self), dtype=tf.int64)).numpy()

    def _random_access(self) -> Images:
        if isinstance(self.images, StreamImages):
            raise ValueError("Images that can only be streamed cannot be chosen one by one. Received: a stream")
        return self.images


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, usually a test split, and what there is to say about them.

    Args:
        name: Name by which it was loaded.
        train: Images to learn from.
        test: Images to evaluate on, or None.
        class_names: Name of each label, or None for unlabeled images.
        notes: Warnings to print at start-up, one sentence each.
    """

    name: str
    train: Split
    test: Split | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 for unlabeled images."""
        return len(self.class_names or ())


def readable(split: Split, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of some rows of a split whose images can be decoded, and these, uint8 (N, H, W, C)."""
    if not isinstance(split.images, EncodedImages):
        return rows, split.take(rows).array()
    images, read = split.images.take(rows).each()
    return rows[read], images[read]
