"""The encoder of a run: built by name, loaded by folder, at random initialization, and exported for TensorFlow alone."""

from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf import quiet
from simclr_tf.augment.base import to_float
from simclr_tf.config import Config, Network
from simclr_tf.files import replacing_folder
from simclr_tf.networks import make_encoder, projection_head, up_to
from simclr_tf.training import checkpoints


def build_encoder(
    network: Network, image_shape: tuple[int, int, int], precision: str = "float32", any_size: bool = False
) -> keras.Model:
    """The encoder that the settings name: float images in [0, 1], of one size or of any, to h."""
    if precision == "mixed_float16":
        quiet.expect_float16()
    encoder = make_encoder(network.encoder, image_shape, network.width, network.stem, dtype=precision)
    return _of_any_size(encoder) if any_size else encoder


def _of_any_size(encoder: keras.Model) -> keras.Model:
    """The same layers for images of any size; raises ValueError if one, such as a dense layer on maps, has a size."""
    _, height, width, channels = encoder.input_shape
    images = keras.Input((None, None, channels), name="images", dtype="float32")
    try:
        free = keras.models.clone_model(encoder, images, clone_function=lambda layer: layer)
        free(keras.KerasTensor((1, height // 2, width // 2, channels)))
        return free
    except ValueError as error:
        raise ValueError(
            f"`resolutions` needs an encoder for images of any size, that is a convolutional one. Received: "
            f"{encoder.name} ({str(error).splitlines()[0]})"
        ) from error


def build_head(network: Network, representation_dim: int, precision: str = "float32") -> keras.Model:
    """The projection head that the settings name: h to z."""
    return projection_head(
        network.projection, representation_dim, network.projection_dim, precision,
        layers=network.projection_layers, width=network.projection_width, batch_norm=network.projection_bn,
        last_batch_norm=network.projection_last_bn,
    )  # fmt: skip


def load_encoder(folder: str | Path, layer: int = 0) -> keras.Model:
    """The pretrained encoder of a run, from its newest checkpoint.

    Args:
        folder: Folder of the run.
        layer: 0 for h, or k for the k-th layer of the projection head as in `networks.up_to`.

    Returns:
        A model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D).

    Raises:
        ValueError: If the folder holds no run or no checkpoint, or the head has no such layer.
    """
    encoder, saved = _encoder_of(Path(folder), layer)
    paths = {variable.path for variable in encoder.variables}
    checkpoints.restore(encoder.variables, {k: v for k, v in saved.variables.items() if k in paths})
    return encoder


def random_encoder(folder: str | Path, layer: int = 0, seed: int | None = None) -> keras.Model:
    """The encoder of a run as it was before training: same architecture, same initial weights.

    Args, returns and raises: as `load_encoder`; and a seed, for other initial weights.
    """
    return _encoder_of(Path(folder), layer, seed)[0]


def export_run(folder: str | Path, layer: int = 0) -> Path:
    """Writes the pretrained encoder of a run as a SavedModel into the run's folder, and returns its path.

    It is `encoder/`, and `encoder_layer<k>/` for a layer of the head.

    Args and raises: as `load_encoder`.
    """
    return export_encoder(load_encoder(folder, layer), Path(folder) / f"encoder{f'_layer{layer}' if layer else ''}")


def _encoder_of(folder: Path, layer: int, seed: int | None = None) -> tuple[keras.Model, checkpoints.Checkpoint]:
    config = Config.load(folder / "config.json")
    saved = checkpoints.newest(folder / "checkpoints")
    if saved is None:
        raise ValueError(f"The run has no checkpoint yet. Received: {folder}")
    keras.utils.set_random_seed(config.training.seed if seed is None else seed)
    encoder = build_encoder(config.network, tuple(saved.meta["image_shape"]), config.training.precision)
    if layer:
        head = build_head(config.network, encoder.output_shape[-1], config.training.precision)
        encoder = keras.Model(encoder.input, up_to(head, layer)(encoder.output), name=f"{encoder.name}_{head.name}")
    return encoder, saved


class _ExportedEncoder(tf.Module):
    """Images in, representations out, with the preprocessing inside."""

    def __init__(self, encoder: keras.Model):
        super().__init__(name="encoder")
        self._encoder = encoder
        # A SavedModel keeps the variables that are attributes of the module; Keras' own tracking is not TensorFlow's.
        self._variables = [variable.value for variable in encoder.variables]

    @tf.function
    def __call__(self, images):
        """Images (B, H, W, C), uint8 or float32 in [0, 1], of the size of training, to h, float32 (B, D)."""
        # No kernel takes a batch of no images.
        return tf.cond(tf.shape(images)[0] > 0, lambda: self._represent(images), self._nothing)

    def _represent(self, images):
        return tf.cast(self._encoder(to_float(images), training=False), tf.float32)

    def _nothing(self):
        return tf.zeros([0, self._encoder.output_shape[-1]])


def export_encoder(encoder: keras.Model, folder: Path) -> Path:
    """Writes a SavedModel, whole or not at all.

    `tf.saved_model.load(folder)` gives an object to call with uint8 images or with floats in [0, 1]; its signatures
    are `serving_default` (float32) and `serving_uint8`.

    Args:
        encoder: Model of float32 images in [0, 1] to h, made outside of any strategy.
        folder: Folder to write; replaced if it exists.

    Returns:
        The folder.
    """
    module, signatures = _ExportedEncoder(encoder), {}

    @tf.function
    def serve(images):
        return {"representation": module(images)}

    for name, dtype in (("serving_default", tf.float32), ("serving_uint8", tf.uint8)):
        spec = tf.TensorSpec([None, *encoder.input_shape[1:]], dtype, name="images")
        module.__call__.get_concrete_function(spec)
        signatures[name] = serve.get_concrete_function(spec)
    with replacing_folder(folder) as temporary:
        tf.saved_model.save(module, str(temporary), signatures=signatures)
    return folder
