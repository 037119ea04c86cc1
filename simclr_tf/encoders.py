"""The encoder of a run: built by name, loaded by folder, at random initialization, and exported for TensorFlow alone."""

import hashlib
from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf import quiet
from simclr_tf.config import Config, Network
from simclr_tf.exports.saved_model import write_saved_model
from simclr_tf.networks import make_encoder, projection_head, up_to
from simclr_tf.networks.folding import is_graph
from simclr_tf.networks.imported import in_one_line
from simclr_tf.training import checkpoints


def build_encoder(
    network: Network, image_shape: tuple[int, int, int], precision: str = "float32", smallest: int | None = None
) -> keras.Model:
    """The encoder that the settings name, float images in [0, 1] to h: of one size, or of any from `smallest` on."""
    if precision == "mixed_float16":
        quiet.expect_float16()
    encoder = make_encoder(network.encoder, image_shape, network.width, network.stem, dtype=precision)
    return _of_any_size(encoder, smallest) if smallest else encoder


def _of_any_size(encoder: keras.Model, smallest: int) -> keras.Model:
    """The same layers for images of any size; raises ValueError if one, such as a dense layer on maps, has a size."""
    shape = 1, smallest, smallest, encoder.input_shape[-1]
    images = keras.Input((None, None, shape[-1]), name="images", dtype="float32")
    try:
        free = keras.models.clone_model(encoder, images, clone_function=_freed)
        free(keras.KerasTensor(shape))
        if any(isinstance(layer, keras.Model) for layer in free.layers):  # into which symbolic calls do not look
            tf.function(free).get_concrete_function(tf.TensorSpec(shape))
        return free
    except Exception as error:  # a user's layers raise anything where a size is not known
        raise ValueError(
            f"`resolutions` needs a convolutional encoder, which takes images of {smallest} pixels, too. Received: "
            f"{encoder.name} ({in_one_line(error)})"
        ) from error


def _freed(layer: keras.Layer) -> keras.Layer:
    """The same layer; of a model within the model, as a user's is, its layers for maps of any size."""
    if not is_graph(layer) or len(layer.input_shape) != 4:
        return layer
    return keras.models.clone_model(layer, keras.Input((None, None, layer.input_shape[-1])), clone_function=_freed)


def build_head(network: Network, representation_dim: int, precision: str = "float32") -> keras.Model:
    """The projection head that the settings name: h to z."""
    return projection_head(
        network.projection, representation_dim, network.projection_dim, precision,
        layers=network.projection_layers, width=network.projection_width, batch_norm=network.projection_bn,
        last_batch_norm=network.projection_last_bn,
    )  # fmt: skip


def load_encoder(
    folder: str | Path, layer: int = 0, precision: str | None = None, saved: checkpoints.Checkpoint | None = None
) -> keras.Model:
    """The pretrained encoder of a run, from its newest checkpoint.

    Args:
        folder: Folder of the run.
        layer: 0 for h, or k for the k-th layer of the projection head as in `networks.up_to`.
        precision: Keras dtype policy to compute in; that of the run by default.
        saved: Checkpoint of the run to take instead of its newest, for two models of one moment.

    Returns:
        A model of float32 images in [0, 1], (B, H, W, C), to float32 (B, D).

    Raises:
        ValueError: If the folder holds no run or no checkpoint, or the head has no such layer.
    """
    encoder, saved = _encoder_of(Path(folder), layer, precision, saved)
    return _restored(encoder, saved)


def load_head(folder: str | Path, representation_dim: int, saved: checkpoints.Checkpoint | None = None) -> keras.Model:
    """The pretrained projection head of a run, from its newest checkpoint: h, float32 (B, D), to z.

    Args:
        folder: Folder of the run.
        representation_dim: D.
        saved: As in `load_encoder`.

    Raises:
        ValueError: If the folder holds no run or no checkpoint.
    """
    config, saved = Config.load(Path(folder) / "config.json"), saved or checkpoints.loaded(Path(folder) / "checkpoints")
    head = build_head(config.network, representation_dim, config.training.precision)
    return _restored(head, saved)


def random_encoder(folder: str | Path, layer: int = 0, seed: int | None = None) -> keras.Model:
    """The encoder of a run before any training: the same architecture, its weights drawn from the run's seed.

    It sets the seed of Keras, NumPy and TensorFlow for that.

    Args:
        folder: Folder of the run.
        layer: As in `load_encoder`.
        seed: Seed of other initial weights; that of the run by default.

    Returns and raises: as `load_encoder`.
    """
    training = Config.load(Path(folder) / "config.json").training
    keras.utils.set_random_seed(training.seed if seed is None else seed)
    return _encoder_of(Path(folder), layer)[0]


def export_run(folder: str | Path) -> None:
    """Writes the pretrained encoder of a run as a SavedModel, `encoder/` in its folder.

    It computes in float32, whatever the run used: where it is loaded, the hardware may not support a lower precision.

    Args and raises: as `load_encoder`.
    """
    write_saved_model(load_encoder(folder, precision="float32"), Path(folder) / "encoder")


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of the path, dtype, shape and bytes of every weight, batch norm's moving statistics included."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = weight.value.numpy()
        digest.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _restored(model: keras.Model, saved: checkpoints.Checkpoint) -> keras.Model:
    """The model with its part of a checkpoint."""
    paths = {weight.path for weight in model.weights}
    checkpoints.restore(model.weights, {path: array for path, array in saved.variables.items() if path in paths})
    return model


def _encoder_of(
    folder: Path, layer: int, precision: str | None = None, saved: checkpoints.Checkpoint | None = None
) -> tuple[keras.Model, checkpoints.Checkpoint]:
    config = Config.load(folder / "config.json")
    saved = saved or checkpoints.loaded(folder / "checkpoints")
    precision = precision or config.training.precision
    encoder = build_encoder(config.network, tuple(saved.meta["image_shape"]), precision)
    if layer:
        head = build_head(config.network, encoder.output_shape[-1], precision)
        encoder = keras.Model(encoder.input, up_to(head, layer)(encoder.output), name=f"{encoder.name}_{head.name}")
    return encoder, saved
