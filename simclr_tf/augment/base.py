"""What every augmentation shares: stateless draws for the global batch, and a transformation of a whole batch."""

import inspect

import keras_cv
import numpy as np
import tensorflow as tf

# The same bits on CPU and GPU and under XLA; the default generator differs between them.
GENERATOR = "philox"

Parameters = dict[str, tf.Tensor]

# One tensor (N, H, W) for each channel. Color arithmetic vectorizes on separate planes, and no concatenation stands
# between two layers: XLA would evaluate the first layer again for every channel that the second one reads.
Planes = list[tf.Tensor]

# Keras-CV's names of what belongs to places in an image.
_PLACED = ("bounding_boxes", "keypoints", "segmentation_masks")


class Augmentation(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """A random transformation of a batch of images, each image with its own parameters.

    A subclass defines how many uniform random numbers an image takes (`uniforms`), what parameters they become
    (`parameters`) and what these do to a batch (`transform`). The randomness is therefore a pure function of a key and
    an image's position: every replica can draw it for the global batch and take its own part.

    A layer is called like those of Keras-CV: on images, or on a dict with "images", whose other entries are returned
    unchanged. With `training=False` images are only scaled to [0, 1]. The layer draws its key from TensorFlow's global
    generator (`tf.random.set_seed`), while `TwoViews` passes one made from the seed, the step and the view.

    Not supported: images of different sizes in one batch (ragged tensors) or of unknown size, and bounding boxes,
    keypoints or segmentation masks where the layer moves pixels.

    Args:
        probability: Probability that an image is transformed; the others stay as they are.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, H, W, C) or (H, W, C), C = 1 or 3; uint8 in [0, 255] or float in [0, 1]. Output: float32 in [0, 1].

    Raises:
        ValueError: If the probability is outside [0, 1], or on a call with anything that is not supported.
    """

    uniforms = 0

    # Whether boxes and masks would have to move with the image; True is the safe default.
    moves_pixels = True

    # Whether an output pixel depends on several input pixels in an elementwise way (shifts, gathers). XLA would
    # evaluate the preceding layers once for each of them, so `TwoViews` compiles such a layer by itself.
    reads_neighbors = False

    def __init__(self, probability: float = 1.0, **kwargs):
        # Keras-CV's constructor would bind the layer to a generator of the process, whose state no checkpoint saves
        # and whose draws are the same on all replicas; so its other two lines are repeated here.
        super(keras_cv.layers.VectorizedBaseImageAugmentationLayer, self).__init__(**{"dtype": "float32"} | kwargs)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.probability = check_number("probability", probability, 0.0, 1.0)

    def parameters(self, u: tf.Tensor, image_shape: tuple[int, int, int]) -> Parameters:
        """The parameters of N images from `u`, (uniforms, N) numbers uniform in [0, 1); each is (N, ...)."""
        return {}

    def transform(self, planes: Planes, parameters: Parameters) -> Planes:
        """Transforms float32 images in [0, 1], given as C planes (N, H, W), each image by its own parameters."""
        raise NotImplementedError

    def draw(self, key: tf.Tensor, count: int | tf.Tensor, image_shape: tuple[int, int, int]) -> Parameters:
        """The parameters of `count` images, a pure function of the key.

        Args:
            key: Key of all draws, int32 (2,).
            count: Number of images, N.
            image_shape: Shape of an image, (H, W, C).

        Returns:
            Tensors of N rows each; row i belongs to the image at position i.
        """
        u = uniform([1 + self.uniforms, count], key)
        return {"chosen": u[0] < self.probability, **self.parameters(u[1:], image_shape)}

    def augment_planes(self, planes: Planes, parameters: Parameters) -> Planes:
        """Transforms the images that were chosen."""
        if self.probability == 0.0:
            return planes
        outputs = self.transform(planes, parameters)
        if self.probability == 1.0:
            return outputs
        chosen = by_image(parameters["chosen"])
        return [tf.where(chosen, after, before) for after, before in zip(outputs, planes, strict=True)]

    def augment_images(self, images, transformations, **kwargs):
        """Keras-CV's entry point: the same for images (N, H, W, C)."""
        return tf.stack(self.augment_planes(tf.unstack(images, axis=-1), transformations), axis=-1)

    def get_random_transformation_batch(self, batch_size, images=None, **kwargs):
        """Keras-CV's entry point: draws with a fresh key, for a layer that is called by itself."""
        key = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        return self.draw(key, batch_size, tuple(images.shape[-3:]))

    def call(self, inputs, training=True):
        """Transforms images, or those of a dict; without `training` only scales them."""
        if not isinstance(inputs, dict):
            return self._augmented(inputs, training)
        placed = [key for key in _PLACED if key in inputs]
        if training and self.moves_pixels and placed:
            raise ValueError(f"{type(self).__name__} moves pixels of images only. Received: {', '.join(placed)}")
        if "images" not in inputs:
            raise ValueError(f'Expected a dict with "images". Received: {sorted(inputs)}')
        return {**inputs, "images": self._augmented(inputs["images"], training)}

    def _augmented(self, images, training):
        images = images if tf.is_tensor(images) else tf.convert_to_tensor(images)
        batch = to_float(images[tf.newaxis] if images.shape.rank == 3 else images)
        if None in batch.shape[1:]:
            raise ValueError(f"Expected images of one static size. Received: shape {batch.shape}")
        if training:
            batch = super().call(batch)
        return batch[0] if images.shape.rank == 3 else batch

    def get_config(self):
        """The arguments of the constructors of all classes, from the attributes of the same names."""
        classes = [cls for cls in type(self).__mro__ if issubclass(cls, Augmentation)]
        parameters = [p for cls in classes for p in inspect.signature(cls.__init__).parameters.values()]
        names = [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def uniform(shape: list, key: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1), multiples of 2^-24, a pure function of shape and key.

    Made from integers, because the generator's floats come from their low bits without XLA and from their high bits
    with it.
    """
    bits = tf.random.stateless_uniform(shape, key, minval=None, maxval=None, dtype=tf.uint32, alg=GENERATOR)
    bits = tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) / 2.0**24


def to_bytes(images: tf.Tensor) -> np.ndarray:
    """Float images in [0, 1] of any shape as uint8, rounded."""
    return np.asarray(images * 255.0).round().astype(np.uint8)


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Validates images (B, H, W, C) and returns them as float32: bytes divided by 255, floats as they are, in [0, 1]."""
    if images.shape.rank != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"Expected images of shape (B, H, W, C) with 1 or 3 channels. Received: {images.shape}")
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    if not images.dtype.is_floating:
        raise ValueError(f"Expected images as uint8 or as floats in [0, 1]. Received: {images.dtype.name}")
    return tf.cast(images, tf.float32)


def by_image(x: tf.Tensor) -> tf.Tensor:
    """One number per image, (N,), reshaped to (N, 1, 1) so that it broadcasts over planes."""
    return x[:, tf.newaxis, tf.newaxis]


def clip(x: tf.Tensor) -> tf.Tensor:
    """Clips to [0, 1]."""
    return tf.clip_by_value(x, 0.0, 1.0)


def between(u: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """Maps numbers uniform in [0, 1) to a range; exact if the range is a single point."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def check_range(name: str, bounds: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Validates a range, which must not be empty, and returns it as a tuple."""
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f"`{name}` must be a range (low, high) within [{low:g}, {high:g}]. Received: {bounds}")
    return (bounds[0], bounds[1])


def check_number(name: str, value: float, low: float, high: float) -> float:
    """Validates a number and returns it."""
    if not low <= value <= high:
        raise ValueError(f"`{name}` must lie between {low:g} and {high:g}. Received: {value}")
    return value
