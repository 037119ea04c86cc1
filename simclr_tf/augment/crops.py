"""Crops: one weight matrix per image and axis."""

import math

import tensorflow as tf

from simclr_tf.augment.base import Augmentation, Planes, between, check_number, check_range, clip


class RandomResizedCrop(Augmentation):
    """Cuts out a rectangle of random area and aspect ratio and resizes it.

    Law "paper": the area is uniform in `area`, a fraction of the image's, as in the paper's appendix A; the aspect
    ratio is log-uniform in `aspect`, as in torchvision's RandomResizedCrop, which the appendix names. (Its words are
    "a random aspect ratio [...] of the original aspect ratio"; neither torchvision nor the paper's code multiplies by
    it.) If some aspect ratios do not fit into the image at that area, the range is limited to those that fit (mean
    area 0.54 of a square image); torchvision draws again instead, which makes large areas rarer (0.49).

    Law "google": that of `tf.image.sample_distorted_bounding_box`, which the paper's code calls. The aspect ratio is
    uniform in `aspect`, and then the height is uniform among those that fit, so small areas are more frequent (0.43).

    Sides are whole pixels. Resizing uses half-pixel centers and sees the crop only, as if it were cut out first, with
    antialiasing where it shrinks. The paper's code resizes bicubically, torchvision bilinearly.

    Args:
        area: Smallest and largest area, within [1e-6, 1].
        aspect: Smallest and largest ratio of width to height.
        method: Interpolation, "bilinear" or "bicubic" (Keys, a = -1/2).
        law: "paper" or "google".
        size: Side of the square output in pixels; None for the size of the image.
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If a range is empty or out of bounds, the method or the law is unknown, or some images would keep
            another size.
    """

    uniforms = 4

    def __init__(
        self,
        area: tuple[float, float] = (0.08, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        method: str = "bilinear",
        law: str = "paper",
        size: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.area = check_range("area", area, 1e-6, 1.0)
        self.aspect = check_range("aspect", aspect, 1e-3, 1e3)
        if method not in KERNELS:
            raise ValueError(f"`method` must be one of {sorted(KERNELS)}. Received: {method}")
        if law not in LAWS:
            raise ValueError(f"`law` must be one of {sorted(LAWS)}. Received: {law}")
        if size and self.probability < 1.0:
            raise ValueError(f"All images must be cropped to have one `size`. Received: probability={self.probability}")
        self.method, self.law, self.size = method, law, size

    def parameters(self, u, image_shape):
        """The crop's `top`, `left`, `height` and `width` in pixels, float32 (N,)."""
        rows, columns = image_shape[:2]
        height, width = LAWS[self.law](self, u, rows, columns)
        # As in TensorFlow's kernel, the last place but one is the last that "google" draws.
        more = 1.0 if self.law == "paper" else 0.0
        top, left = tf.floor(u[2] * (rows - height + more)), tf.floor(u[3] * (columns - width + more))
        return {"top": top, "left": left, "height": height, "width": width}

    def _paper(self, u, rows, columns):
        area = between(u[0], self.area)
        # width^2 = area * aspect * rows * columns <= columns^2, and likewise for the height.
        log_low = tf.maximum(math.log(self.aspect[0]), tf.math.log(area * columns / rows))
        widest = tf.math.log(columns / rows / area)
        log_high = tf.minimum(math.log(self.aspect[1]), widest)
        # Of an area for which no such ratio fits, the nearest one that does.
        aspect = tf.exp(tf.minimum(log_low + u[1] * tf.maximum(log_high - log_low, 0.0), widest))
        pixels = area * rows * columns
        height = tf.clip_by_value(tf.round(tf.sqrt(pixels / aspect)), 1.0, rows)
        return height, tf.clip_by_value(tf.round(tf.sqrt(pixels * aspect)), 1.0, columns)

    def _google(self, u, rows, columns):
        aspect = between(u[1], self.aspect)
        # The paper's code also asks that a tenth of the image is covered.
        smallest = max(self.area[0], min(0.1, self.area[1]))
        low = tf.math.ceil(tf.sqrt(smallest * rows * columns / aspect))
        high = tf.round(tf.sqrt(self.area[1] * rows * columns / aspect))
        high = tf.minimum(tf.minimum(high, tf.floor((columns + 0.5) / aspect)), rows)
        height = tf.maximum(tf.minimum(low + tf.floor(u[0] * (high - low + 1.0)), high), 1.0)
        return height, tf.clip_by_value(tf.round(height * aspect), 1.0, columns)

    def transform(self, planes, parameters):
        """Crops and resizes."""
        rows, columns = planes[0].shape[1:]
        down = _resize_weights(parameters["top"], parameters["height"], rows, self.size or rows, self.method)
        across = _resize_weights(parameters["left"], parameters["width"], columns, self.size or columns, self.method)
        outputs = resample(planes, down, across)
        return outputs if self.method == "bilinear" else [clip(plane) for plane in outputs]

    @property
    def cuts_only(self) -> bool:
        """Whether a reader that cuts boxes out of images does all that this layer does, but for the final `size`."""
        return self.method == "bilinear" and self.probability == 1.0

    def resized(self, planes: Planes) -> Planes:
        """What remains to be done with crops: resizing them if there is another `size`."""
        side = planes[0].shape[1]
        if self.size in (None, side):
            return planes
        nothing = tf.zeros(tf.shape(planes[0])[0])
        box = {"top": nothing, "left": nothing, "height": nothing + side, "width": nothing + side}
        return self.transform(planes, box)


LAWS = {"google": RandomResizedCrop._google, "paper": RandomResizedCrop._paper}


class RandomCrop(Augmentation):
    """Shifts images by whole pixels with reflected borders: a crop without resizing.

    Equivalent to padding by reflection and cutting out a window of the image's size, the standard augmentation of
    supervised training on CIFAR-10 (He et al., 2016, who pad 32 x 32 images with 4 zeros).

    Args:
        shift: Largest shift along each axis, as a fraction of the side, within [0, 0.5].
        **kwargs: Arguments of `Augmentation`.

    Raises:
        ValueError: If the shift is out of range.
    """

    uniforms = 2

    def __init__(self, shift: float = 0.125, **kwargs):
        super().__init__(**kwargs)
        self.shift = check_number("shift", shift, 0.0, 0.5)

    def parameters(self, u, image_shape):
        """Shifts `down` and `right`, in whole pixels, float32 (N,)."""
        most = [math.floor(self.shift * side) for side in image_shape[:2]]
        down, right = (tf.floor(u[axis] * (2.0 * most[axis] + 1.0)) - most[axis] for axis in range(2))
        return {"down": down, "right": right}

    def transform(self, planes, parameters):
        """Shifts."""
        rows, columns = planes[0].shape[1:]
        down, across = _shift_weights(parameters["down"], rows), _shift_weights(parameters["right"], columns)
        return resample(planes, down, across)


def resample(planes: Planes, down: tf.Tensor, across: tf.Tensor) -> Planes:
    """Resamples along both axes, each image with its own weights: two batched matrix products per plane.

    Unlike `tf.image.crop_and_resize` they compile under XLA, and unlike gathers they are fast on a TPU. There, and with
    TF32, factors are rounded to at least 8 bits of mantissa, about the precision of uint8 images.

    Args:
        planes: C planes (N, H, W), which become (N, H', W').
        down: Weight of each input row in each output row, (N, H', H).
        across: Weight of each input column in each output column, (N, W', W).
    """
    return [tf.matmul(down, tf.matmul(plane, across, transpose_b=True)) for plane in planes]


def reflect(at: tf.Tensor, size: int) -> tf.Tensor:
    """Reflects positions at most one side outside [0, size - 1] into it, without repeating the border."""
    last = size - 1.0
    return last - tf.abs(last - tf.abs(at)) if size > 1 else tf.zeros_like(at)


def _shift_weights(shift: tf.Tensor, size: int) -> tf.Tensor:
    source = reflect(tf.range(size, dtype=tf.float32) - shift[:, None], size)
    return tf.one_hot(tf.cast(source, tf.int32), size)


def _resize_weights(start: tf.Tensor, length: tf.Tensor, size: int, out: int, method: str) -> tf.Tensor:
    """Weights (N, out, size) that resize `length` of `size` pixels, from `start` on, to `out` pixels, along one axis."""
    start, length = start[:, None, None], length[:, None, None]
    at = (tf.range(out, dtype=tf.float32)[:, None] + 0.5) / out  # centers of output pixels, in (0, 1)
    pixels = tf.range(size, dtype=tf.float32)
    distance = tf.abs(start + at * length - 0.5 - pixels)
    if out < size:
        distance /= tf.maximum(length / out, 1.0)  # a wider kernel where it shrinks
    weights = KERNELS[method](distance)
    weights = tf.where((pixels >= start) & (pixels < start + length), weights, 0.0)
    # At the crop's border the kernel reaches outside; the remaining weights are normalized, as in PIL.
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _cubic(distance: tf.Tensor) -> tf.Tensor:
    """Keys' kernel with a = -1/2, as in PIL and `tf.image.resize`."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return tf.where(distance < 1.0, near, tf.where(distance < 2.0, far, 0.0))


KERNELS = {"bicubic": _cubic, "bilinear": lambda distance: tf.maximum(0.0, 1.0 - distance)}
