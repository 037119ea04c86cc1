"""Images for the augmentation tests: smooth, so that interpolation has something to interpolate, with some detail."""

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture(scope="session")
def images():
    """Six color images, uint8 (6, 20, 16, 3), using the whole range of values."""
    noise = np.random.default_rng(0).random((6, 20, 16, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    low, high = smooth.min((1, 2, 3), keepdims=True), smooth.max((1, 2, 3), keepdims=True)
    return np.round(255 * (smooth - low) / (high - low)).astype(np.uint8)


@pytest.fixture(scope="session")
def apply():
    """Applies a layer with given parameters: float64 (N, H, W, C) of uint8 images."""
    import tensorflow as tf

    from simclr_tf.augment.base import to_float

    def run(layer, images, **parameters):
        drawn = {name: tf.constant(value) for name, value in parameters.items()}
        drawn.setdefault("chosen", tf.fill([len(images)], True))
        return layer.augment_images(to_float(tf.constant(images)), drawn).numpy().astype(np.float64)

    return run
