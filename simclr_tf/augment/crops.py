"""Crops: one weight matrix an image and axis."""

import math

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, Planes, between, check_range, clip


class RandomResizedCrop(Augmentation):
    """Cuts out a rectangle of random area and aspect and resizes it to the image's own size.

    The area is uniform in `area` (as a part of the image's), the logarithm of the aspect ratio uniform in `aspect`, as
    in the paper's appendix A. Where a rectangle of that area would not fit into the image for every aspect, the range
    of aspects is cut to those that fit; torchvision and TensorFlow draw again instead, which makes large areas rarer
    than the uniform law says. Sides are whole pixels.

    Resizing has half-pixel centres and sees the crop only, as if it were cut out first; a crop is never larger than
    the image, so there is no aliasing to guard against. The paper's code resizes bicubically, torchvision and most
    others bilinearly.

    Args:
        area: smallest and largest area, within [0, 1].
        aspect: smallest and largest ratio of width to height.
        method: "bilinear", or "bicubic" (Keys, a = -1/2).
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on an empty range or an unknown method.
    """

    uniforms = 4

    def __init__(
        self,
        area: tuple[float, float] = (0.08, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        method: str = "bilinear",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.area = check_range("area", area, 1e-6, 1.0)
        self.aspect = check_range("aspect", aspect, 1e-3, 1e3)
        if method not in KERNELS:
            raise ValueError(f"The method must be one of {', '.join(sorted(KERNELS))}. Received: {method}")
        self.method = method

    def parameters(self, u, image_shape):
        """The crop's `top`, `left`, `height` and `width` in pixels, float32 (N,)."""
        rows, columns = image_shape[0], image_shape[1]
        area = between(u[0], self.area)
        # width^2 = area * aspect * rows * columns <= columns^2, and likewise for the height.
        log_low = tf.maximum(math.log(self.aspect[0]), tf.math.log(area * columns / rows))
        log_high = tf.minimum(math.log(self.aspect[1]), tf.math.log(columns / rows / area))
        aspect = tf.exp(log_low + u[1] * tf.maximum(log_high - log_low, 0.0))
        pixels = area * rows * columns
        height = tf.clip_by_value(tf.round(tf.sqrt(pixels / aspect)), 1.0, rows)
        width = tf.clip_by_value(tf.round(tf.sqrt(pixels * aspect)), 1.0, columns)
        return {
            "top": tf.floor(u[2] * (rows - height + 1.0)),
            "left": tf.floor(u[3] * (columns - width + 1.0)),
            "height": height,
            "width": width,
        }

    def transform(self, planes, parameters):
        """Crops and resizes."""
        rows, columns = planes[0].shape[1:]
        down = _resize_weights(parameters["top"], parameters["height"], rows, self.method)
        across = _resize_weights(parameters["left"], parameters["width"], columns, self.method)
        outputs = resample(planes, down, across)
        return outputs if self.method == "bilinear" else [clip(plane) for plane in outputs]


class RandomCrop(Augmentation):
    """Moves images by whole pixels, what comes in from outside being their mirror image: a crop without resizing.

    The same as padding by reflection and cutting out a window of the image's own size, the augmentation of supervised
    training on CIFAR-10 (He et al., 2016, who pad with zeros and by 4 pixels of 32).

    Args:
        shift: largest shift along each axis, as a part of the side, within [0, 0.5].
        **kwargs: of `Augmentation`.

    Raises:
        ValueError: on a shift out of range.
    """

    uniforms = 2

    def __init__(self, shift: float = 0.125, **kwargs):
        super().__init__(**kwargs)
        check_range("shift", (0.0, shift), 0.0, 0.5)
        self.shift = shift

    def parameters(self, u, image_shape):
        """Shifts `down` and `right`, in whole pixels, float32 (N,)."""
        most = [math.floor(self.shift * side) for side in image_shape[:2]]
        down, right = (tf.floor(u[axis] * (2.0 * most[axis] + 1.0)) - most[axis] for axis in range(2))
        return {"down": down, "right": right}

    def transform(self, planes, parameters):
        """Moves."""
        rows, columns = planes[0].shape[1:]
        down, across = _shift_weights(parameters["down"], rows), _shift_weights(parameters["right"], columns)
        return resample(planes, down, across)


def resample(planes: Planes, down: tf.Tensor, across: tf.Tensor) -> Planes:
    """Resamples along both axes, each image with its own weights: two batched matrix products a plane.

    Unlike `tf.image.crop_and_resize` they compile under XLA, and unlike gathers they suit a TPU. There, and with TF32,
    factors are rounded to 8 or more bits of mantissa, about the precision of the uint8 that images come in.

    Args:
        planes: C planes (N, H, W).
        down: (N, H', H), the weight of each input row in each output row.
        across: (N, W', W), likewise for columns.

    Returns:
        C planes (N, H', W').
    """
    return [tf.matmul(down, tf.matmul(plane, across, transpose_b=True)) for plane in planes]


def reflect(at: tf.Tensor, size: int) -> tf.Tensor:
    """Positions up to one side outside [0, size - 1] mirrored into it, without repeating the border."""
    last = size - 1.0
    return last - tf.abs(last - tf.abs(at)) if size > 1 else tf.zeros_like(at)


def _shift_weights(shift: tf.Tensor, size: int) -> tf.Tensor:
    source = reflect(tf.range(size, dtype=tf.float32) - shift[:, None], size)
    return tf.one_hot(tf.cast(source, tf.int32), size)


def _resize_weights(start: tf.Tensor, length: tf.Tensor, size: int, method: str) -> tf.Tensor:
    """Weights (N, size, size) that stretch `length` pixels from `start` over `size` pixels, along one axis."""
    start, length = start[:, None, None], length[:, None, None]
    at = (tf.range(size, dtype=tf.float32)[:, None] + 0.5) / size  # output pixels' centres, in (0, 1)
    pixels = tf.range(size, dtype=tf.float32)
    weights = KERNELS[method](tf.abs(start + at * length - 0.5 - pixels))
    weights = tf.where((pixels >= start) & (pixels < start + length), weights, 0.0)
    # At the crop's border the kernel reaches outside; what is left of it counts for the whole, as in PIL.
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _linear(distance: tf.Tensor) -> tf.Tensor:
    return tf.maximum(0.0, 1.0 - distance)


def _cubic(distance: tf.Tensor) -> tf.Tensor:
    """Keys' kernel with a = -1/2, that of PIL and of `tf.image.resize`."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return tf.where(distance < 1.0, near, tf.where(distance < 2.0, far, 0.0))


KERNELS = {"bicubic": _cubic, "bilinear": _linear}
