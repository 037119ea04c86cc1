"""The embedded data set `patterns`: ten procedural textures, drawn with NumPy, nothing to download.

It exists so that a whole run (pretrain, evaluate, plot) works offline in minutes and still has something to learn.
Three decisions make it a test of contrastive learning rather than of bookkeeping:

* Colors are muted and shared: grays with a slight tint. With vivid random colors, color alone would tell two images
  apart and solve the contrastive task, and the texture would never be learned.
* Orientation, frequency, phase and polarity are random for every image, and all images have nearly the same mean and
  contrast. No pixel means anything by itself: a linear classifier on raw pixels stays near chance (16 % of ten classes).
* Periods are 4 to 16 pixels: several fit into the image, and a crop of 8 % of the area still shows about one.
"""

from collections.abc import Callable

import numpy as np

from simclr_tf.data.source import ArrayImages, Dataset, Split

SIZE = 32


def load_patterns(n_train: int = 5000, n_test: int = 1000, seed: int = 0) -> Dataset:
    """Draws the `patterns` data set.

    Args:
        n_train: Number of training images.
        n_test: Number of test images, from a random stream independent of that of the training images.
        seed: Non-negative integer. The same seed and NumPy release give the same data set.

    Returns:
        A `Dataset` of uint8 images (n, 32, 32, 3) and int32 labels (n,), balanced and shuffled; classes in the order of
        `TEXTURES`.

    Raises:
        ValueError: If a size is not positive or the seed is negative.
    """

    def split(n: int, stream: int) -> Split:
        images, labels = make_patterns(n, seed, stream)
        return Split(ArrayImages(images), labels)

    return Dataset("patterns", split(n_train, 0), split(n_test, 1), tuple(TEXTURES))


def make_patterns(n: int, seed: int, stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws textured images, uint8 (n, 32, 32, 3), and their labels, int32 (n,), in random order.

    Args:
        n: Number of images. Class counts differ by at most one.
        seed: Non-negative integer.
        stream: Non-negative integer; the streams of one seed are independent. 0 for training images, 1 for test images.

    Raises:
        ValueError: If `n` is not positive, or `seed` or `stream` is negative.
    """
    if n < 1:
        raise ValueError(f"The number of images must be positive. Received: n={n}")
    if seed < 0 or stream < 0:
        raise ValueError(f"Seed and stream must not be negative. Received: seed={seed}, stream={stream}")
    # Always three words: SeedSequence pads with zeros, so [s] and [s, 0] would be the same generator.
    labels = np.arange(n, dtype=np.int32) % len(TEXTURES)
    np.random.default_rng([seed, stream, len(TEXTURES)]).shuffle(labels)
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for label, texture in enumerate(TEXTURES.values()):
        # A generator for each class: a change to one texture leaves the images of the others as they are.
        rng = np.random.default_rng([seed, stream, label])
        members = np.flatnonzero(labels == label)
        images[members] = _develop(rng, texture(rng, len(members)))
    return images, labels


def _develop(rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """Turns textures (n, 32, 32) of any scale into muted uint8 images (n, 32, 32, 3)."""
    n = len(texture)
    # Zero mean and unit deviation: otherwise the share of ink would give the class away in the mean gray.
    texture = texture - texture.mean(axis=(1, 2), keepdims=True)
    texture /= texture.std(axis=(1, 2), keepdims=True) + 1e-6
    polarity = rng.choice([-1.0, 1.0], (n, 1, 1))
    gray = polarity * _uniform(rng, n, 0.13, 0.21) * texture
    across, _ = _rotated(rng, n, jitter=0.0)
    light = _uniform(rng, n, 0.0, 0.08) * across / (SIZE / 2)  # uneven illumination, as a slope
    # One tint for the paper and another for the ink, both so slight that the image stays gray.
    paper = rng.normal(0.0, 0.01, (n, 1, 1, 3))
    ink = rng.normal(1.0, 0.06, (n, 1, 1, 3))
    level = rng.normal(0.5, 0.02, (n, 1, 1, 1))
    image = level + paper + light[..., None] + ink * gray[..., None]
    image += rng.normal(0.0, 0.02, image.shape)
    return np.rint(255 * np.clip(image, 0.0, 1.0)).astype(np.uint8)


# --- Coordinates and edges. Every array is (n, 32, 32), or (n, 1, 1) for one number per image. ---


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, (n, 1, 1))


def _rotated(rng: np.random.Generator, n: int, jitter: float = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates in a frame of random angle, its origin up to `jitter` pixels off the center."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    x = x + _uniform(rng, n, -jitter, jitter)
    y = y + _uniform(rng, n, -jitter, jitter)
    angle = _uniform(rng, n, 0.0, 2 * np.pi)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _to_line(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Distance in pixels from `x` to the nearest multiple of `period`."""
    return np.abs(x - period * np.rint(x / period))


def _edge(distance: np.ndarray) -> np.ndarray:
    """Signed distance in pixels -> -1 to 1, about one pixel wide: hard slanted edges would alias."""
    return np.tanh(1.5 * distance)


def _smooth_noise(rng: np.random.Generator, n: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """White noise of unit deviation, filtered by `gain`, a function of the frequency in cycles per pixel."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))  # (32, 17)
    spectrum = np.fft.rfft2(rng.standard_normal((n, SIZE, SIZE))) * gain(frequency)
    spectrum[:, 0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return noise / noise.std(axis=(1, 2), keepdims=True)


# --- The textures: (rng, n) -> (n, 32, 32), of any scale and offset, which `_develop` removes. ---


def _stripes(rng: np.random.Generator, n: int) -> np.ndarray:
    x, _ = _rotated(rng, n)
    period = _uniform(rng, n, 4.0, 9.0)
    return _edge(_to_line(x, period) - _uniform(rng, n, 0.2, 0.3) * period)


def _checks(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n)
    period = _uniform(rng, n, 7.0, 13.0)  # two tiles
    return _edge(_to_line(x, period) - period / 4) * _edge(_to_line(y, period) - period / 4)


def _dots(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n)
    period = _uniform(rng, n, 6.0, 10.0)
    return _edge(np.hypot(_to_line(x, period), _to_line(y, period)) - _uniform(rng, n, 0.22, 0.32) * period)


def _rings(rng: np.random.Generator, n: int) -> np.ndarray:
    radius = np.hypot(*_rotated(rng, n, jitter=8.0))
    period = _uniform(rng, n, 4.0, 8.0)
    phase = _uniform(rng, n, 0.0, 1.0) * period
    return _edge(_to_line(radius + phase, period) - period / 4)


def _rays(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n, jitter=8.0)
    rays = rng.integers(7, 15, (n, 1, 1))
    period = 2 * np.pi / rays
    # Radians times the radius are pixels, so toward the center the rays fade to gray instead of aliasing.
    return _edge(np.hypot(x, y) * (_to_line(np.arctan2(y, x), period) - period / 4))


def _noise(rng: np.random.Generator, n: int) -> np.ndarray:
    slope = _uniform(rng, n, 0.0, 0.8)  # of the amplitude spectrum: 0 is white, 1 is pink
    return _smooth_noise(rng, n, lambda frequency: np.maximum(frequency, 1 / SIZE) ** -slope)


def _blobs(rng: np.random.Generator, n: int) -> np.ndarray:
    radius = _uniform(rng, n, 1.6, 2.8)  # deviation of the Gaussian blur, in pixels
    noise = _smooth_noise(rng, n, lambda frequency: np.exp(-2 * (np.pi * radius * frequency) ** 2))
    return np.tanh(2.5 * (noise - _uniform(rng, n, -0.4, 0.4)))


def _bricks(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n)
    height = _uniform(rng, n, 4.5, 6.5)
    length = _uniform(rng, n, 1.8, 2.4) * height
    x = x + length / 2 * (np.floor(y / height) % 2)  # every other course is shifted by half a brick
    return _edge(np.minimum(_to_line(x, length), _to_line(y, height)) - 0.14 * height)


def _zigzag(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n)
    slope = _uniform(rng, n, 0.8, 1.3)
    lengthen = np.sqrt(1 + slope**2)  # from the width of a slanted band to its height along y
    period = _uniform(rng, n, 4.0, 6.5) * lengthen
    height = y + slope * _to_line(x, _uniform(rng, n, 8.0, 14.0))
    return _edge((_to_line(height, period) - period / 4) / lengthen)


def _grid(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _rotated(rng, n)
    period = _uniform(rng, n, 5.0, 10.0)
    return _edge(np.minimum(_to_line(x, period), _to_line(y, period)) - _uniform(rng, n, 0.1, 0.14) * period)


# Name -> texture; the order is that of the labels.
TEXTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "rays": _rays,
    "noise": _noise,
    "blobs": _blobs,
    "bricks": _bricks,
    "zigzag": _zigzag,
    "grid": _grid,
}
