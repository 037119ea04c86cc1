"""What every augmentation shares: stateless draws for the global batch, and a transformation of a whole batch."""

import keras_cv
import tensorflow as tf

# The same bits on CPU and GPU and under XLA; the default generator differs between them.
GENERATOR = "philox"

Parameters = dict[str, tf.Tensor]

# One tensor (N, H, W) a channel. Color arithmetic on separate planes vectorises, and no concatenation stands between
# two layers, through which XLA would evaluate the first once for every channel that the second reads.
Planes = list[tf.Tensor]


class Augmentation(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """A random transformation of a batch of images, each image with its own parameters.

    A subclass says how many uniform random numbers an image takes (`uniforms`), what parameters they become
    (`parameters`), and what these do to a batch (`transform`). So the randomness is a pure function of a key and an
    image's position: it can be drawn for the global batch on every replica, of which each takes its own part.

    Called by itself, a layer draws its key from TensorFlow's global generator (`tf.random.set_seed`); `TwoViews` hands
    it a key of the seed, the step and the view.

    Args:
        probability: with which an image is transformed; the others are left as they are.
        **kwargs: of `keras.layers.Layer`.

    Input shape: (B, H, W, C) with C of 1 or 3, uint8 in [0, 255] or float in [0, 1]. Output: float32 in [0, 1].

    Raises:
        ValueError: on a probability outside [0, 1], or images of another rank or number of channels.
    """

    uniforms = 0

    # Whether an output pixel depends on several input pixels in an elementwise way (shifts, gathers). XLA would
    # evaluate the layers before it once for each of them; to `TwoViews` it is a program of its own.
    reads_neighbours = False

    def __init__(self, probability: float = 1.0, **kwargs):
        # Keras-CV's constructor would bind the layer to a generator of the process, whose state no checkpoint saves
        # and whose draws are the same on all replicas; so its two other lines stand here.
        super(keras_cv.layers.VectorizedBaseImageAugmentationLayer, self).__init__(**{"dtype": "float32"} | kwargs)
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"The probability must lie between 0 and 1. Received: {probability}")
        self.probability = probability

    def parameters(self, u: tf.Tensor, image_shape: tuple[int, int, int]) -> Parameters:
        """The parameters of N images from `u`, (uniforms, N) numbers uniform in [0, 1); each is (N, ...)."""
        return {}

    def transform(self, planes: Planes, parameters: Parameters) -> Planes:
        """Transforms float32 images in [0, 1], given as C planes (N, H, W), each image by its own parameters."""
        raise NotImplementedError

    def draw(self, key: tf.Tensor, count: int | tf.Tensor, image_shape: tuple[int, int, int]) -> Parameters:
        """The parameters of `count` images, a pure function of the key.

        Args:
            key: (2,) int32.
            count: how many images, N.
            image_shape: (H, W, C).

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
        """Keras-CV's entry: the same for images (N, H, W, C)."""
        return to_images(self.augment_planes(to_planes(images), transformations))

    def augment_labels(self, labels, transformations, **kwargs):
        """Keras-CV's entry: labels stay as they are."""
        return labels

    def get_random_transformation_batch(self, batch_size, images=None, **kwargs):
        """Keras-CV's entry: draws with a fresh key, for the layer called by itself."""
        key = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        return self.draw(key, batch_size, tuple(images.shape[-3:]))

    def call(self, inputs):
        """Draws parameters and transforms a batch, or a dict with "images"."""
        images = inputs["images"] if isinstance(inputs, dict) else tf.convert_to_tensor(inputs)
        images = to_float(images)
        return super().call({**inputs, "images": images} if isinstance(inputs, dict) else images)


def uniform(shape: list, key: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1), multiples of 2^-24, a pure function of shape and key.

    Made from integers, because the generator's floats use their low bits where XLA does not compile and their high bits
    where it does.
    """
    bits = tf.random.stateless_uniform(shape, key, minval=None, maxval=None, dtype=tf.uint32, alg=GENERATOR)
    bits = tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) / 2.0**24


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Images as float32 in [0, 1]: uint8 is divided by 255, floats are taken to be in [0, 1] already.

    Raises:
        ValueError: when they are no batch of images with 1 or 3 channels, or of another dtype.
    """
    if images.shape.rank != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"Expected images of shape (B, H, W, C) with 1 or 3 channels. Received: {images.shape}")
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    if not images.dtype.is_floating:
        raise ValueError(f"Expected images as uint8 or as floats in [0, 1]. Received: {images.dtype.name}")
    return tf.cast(images, tf.float32)


def to_planes(images: tf.Tensor) -> Planes:
    """(N, H, W, C) to C planes (N, H, W)."""
    return tf.unstack(images, axis=-1)


def to_images(planes: Planes) -> tf.Tensor:
    """C planes (N, H, W) to (N, H, W, C)."""
    return tf.stack(planes, axis=-1)


def by_image(x: tf.Tensor) -> tf.Tensor:
    """A number an image, (N,), in a shape that goes with planes, (N, 1, 1)."""
    return x[:, tf.newaxis, tf.newaxis]


def clip(x: tf.Tensor) -> tf.Tensor:
    """Clips to [0, 1]."""
    return tf.clip_by_value(x, 0.0, 1.0)


def between(u: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """Numbers uniform in [0, 1) stretched over a range; exactly its bound where the range is a point."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def check_range(name: str, bounds: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """A range as a tuple, after a look at it.

    Raises:
        ValueError: when it is empty or not within [low, high].
    """
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f"The {name} must be a range (low, high) within [{low:g}, {high:g}]. Received: {bounds}")
    return (bounds[0], bounds[1])


def check_strength(strength: float, high: float) -> float:
    """A strength, after a look at it.

    Raises:
        ValueError: when it is not within [0, high].
    """
    if not 0.0 <= strength <= high:
        raise ValueError(f"The strength must lie between 0 and {high:g}. Received: {strength}")
    return strength
