"""Images that turn out to be damaged in the middle of a run: named, counted, and tolerated up to a limit."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from simclr_tf.data.source import EncodedImages, Split, lost


def tolerating(split: Split, limit: Callable[[int], int]) -> "Damaged | None":
    """Watches for damaged images of a split; None where they are not encoded.

    Args:
        split: The images.
        limit: Function from a number of images to how many of them may be damaged.
    """
    images = split.images
    return Damaged(images, limit(len(images))) if isinstance(images, EncodedImages) else None


class Damaged:
    """Watches for images in whose place others were decoded.

    Args:
        images: The images.
        limit: How many of them may be replaced by others.
    """

    def __init__(self, images: EncodedImages, limit: int = 0) -> None:
        self._images, self._limit = images, limit
        self._found: set[int] = set()

    def check(self, pixels: tf.Tensor, wanted: tf.Tensor, used: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Checks a batch inside a tf.data map: the images `wanted`, and those `used` in their places, both int64 (B,).

        Python is called only for a batch in which they differ. Beyond the limit, the map fails with a message that names
        the damaged images.

        Returns:
            The pixels, and the indices of the images that they show.
        """

        def report() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(self._report, [wanted, used], tf.int64), used.shape)

        return pixels, tf.cond(tf.reduce_all(wanted == used), lambda: used, report)

    def _report(self, wanted: np.ndarray, used: np.ndarray) -> np.ndarray:
        for index, other in zip(wanted.tolist(), used.tolist(), strict=True):
            if index != other and index not in self._found:
                self._found.add(index)
                if len(self._found) <= self._limit:
                    place = f"{self._images.name(other)} takes its place" if other >= 0 else "nor those after it"
                    count = f"{len(self._found)} of {self._limit} that `max_bad_files` allows".replace("`", "")
                    print(f"warning  cannot decode {self._images.name(index)}; {place} ({count})", flush=True)
        if len(self._found) > self._limit or (used < 0).any():
            raise ValueError(lost([self._images.name(index) for index in sorted(self._found)], self._limit))
        return used
