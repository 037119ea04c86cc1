"""What every augmentation shares: stateless draws for the global batch, and a transformation of a whole batch."""

import keras_cv
import tensorflow as tf

# The same bits on every device and under XLA; the default generator differs between them.
GENERATOR = "philox"

Parameters = dict[str, tf.Tensor]


class Augmentation(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """A random transformation of a batch of images, each image with its own parameters.

    A subclass says how many uniform random numbers an image takes (`uniforms`), what parameters they become
    (`parameters`), and what these do to a batch (`transform`). So the randomness is a pure function of a key and an
    image's position: it can be drawn for the global batch on every replica, of which each takes its own part.

    Args:
        probability: with which an image is transformed; the others are left as they are.
        **kwargs: of `keras.layers.Layer`.

    Input shape: (B, H, W, C) with C of 1 or 3, uint8 in [0, 255] or float in [0, 1]. Output: float32 in [0, 1].

    Raises:
        ValueError: on a probability outside [0, 1], or images of another rank or number of channels.
    """

    uniforms = 0

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
        raise NotImplementedError

    def transform(self, images: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        """Transforms float32 images (N, H, W, C) in [0, 1], each by its own parameters."""
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
        u = tf.random.stateless_uniform([1 + self.uniforms, count], key, alg=GENERATOR)
        return {"chosen": u[0] < self.probability, **self.parameters(u[1:], image_shape)}

    def augment_images(self, images, transformations, **kwargs):
        """Transforms the images that were chosen."""
        outputs = self.transform(images, transformations)
        if self.probability == 1.0:
            return outputs
        return tf.where(transformations["chosen"][:, None, None, None], outputs, images)

    def get_random_transformation_batch(self, batch_size, images=None, **kwargs):
        """Draws with a fresh key: the layer called by itself, without `TwoViews`."""
        key = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        return self.draw(key, batch_size, tuple(images.shape[-3:]))

    def call(self, inputs):
        """Draws parameters and transforms a batch, or a dict with "images"."""
        images = inputs["images"] if isinstance(inputs, dict) else tf.convert_to_tensor(inputs)
        images = to_float(images)
        return super().call({**inputs, "images": images} if isinstance(inputs, dict) else images)


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
