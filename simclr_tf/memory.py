"""How much memory a run will take on each device, said before it starts."""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from simclr_tf.distribution import devices, num_workers
from simclr_tf.networks.normalization import SyncBatchNormalization

VIEWS = 2
ADVICE = "take a smaller --batch_size or --width, --precision=mixed_bfloat16, or more devices"
HEADROOM = 0.9  # of a device's memory; the rest goes to fragments and workspaces
# Whose outputs overwrite their inputs. XLA also makes those of batch norms again for the backward pass.
IN_PLACE = (keras.layers.ReLU, keras.layers.InputLayer)
MADE_AGAIN = (*IN_PLACE, keras.layers.ZeroPadding2D, keras.layers.BatchNormalization, SyncBatchNormalization)


class Memory(NamedTuple):
    """Bytes on one device.

    Attributes:
        variables: weights, statistics and the optimizer's slots.
        gradients: of the trainable weights.
        activations: layer outputs that the backward pass needs, of both views.
        loss: a block of similarities and the projections of the global batch.
    """

    variables: int
    gradients: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def expected_memory(model: keras.Model, batch_size: int, block: int = 2**20) -> Memory | None:
    """An estimate for one replica in a train step, good to a factor of about 1.5.

    None for an encoder of the user's whose layers do not say what they give: a subclass of `keras.Model`, or one for
    images of any size.

    Args:
        model: a built and compiled `SimCLR`.
        batch_size: images in the global batch.
        block: similarities that the loss holds at a time.
    """
    strategy = model.distribute_strategy
    images = VIEWS * batch_size // strategy.num_replicas_in_sync
    compiled = model.jit_compile is True or isinstance(strategy, tf.distribute.TPUStrategy)
    dropped = MADE_AGAIN if compiled else IN_PLACE
    sizes = [_size(output) for part in (model.encoder, model.head) for output in _outputs(part, dropped)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    activations = sum(known) * images
    dim = math.prod(model.head.output_shape[1:])
    pairs = images * VIEWS * batch_size
    # Similarities, their logits, exponentials and gradient; then the candidates and their gradient, in float32.
    loss = 4 * (4 * min(pairs, block) + 2 * VIEWS * batch_size * dim)
    return Memory(
        sum(map(_bytes, [*model.weights, *model.optimizer.variables])),
        sum(map(_bytes, model.trainable_variables)),
        activations,
        loss,
    )


def _outputs(model: keras.Model, dropped: tuple[type, ...]) -> Iterator[keras.KerasTensor | None]:
    """The outputs that the backward pass needs; None for a layer whose outputs are not known."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _outputs(layer, dropped)
        elif not isinstance(layer, dropped):
            yield from keras.tree.flatten(getattr(layer, "output", None))


def _size(output: keras.KerasTensor | None) -> int | None:
    """Bytes of one image's output, None where its shape is not known."""
    if output is None or None in output.shape[1:]:
        return None
    return math.prod(output.shape[1:]) * tf.as_dtype(output.dtype).size


def _bytes(variable: keras.Variable) -> int:
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def device_memory(strategy: tf.distribute.Strategy) -> int | None:
    """Bytes that one device has, None where TensorFlow does not say. Devices on the CPU share the machine's."""
    name = devices(strategy)[0]
    kind = tf.DeviceSpec.from_string(name).device_type
    if kind == "CPU":
        local = strategy.num_replicas_in_sync // num_workers(strategy)
        free = _available()
        return free // local if free else None
    if kind != "GPU":
        return None
    return _gpu_memory()


def _available() -> int | None:
    """Bytes that processes of this machine can still get."""
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":") for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _gpu_memory() -> int | None:
    """Bytes of the first GPU: what TensorFlow was limited to, or what its driver says."""
    limits = [
        device.memory_limit
        for device in tf.config.get_logical_device_configuration(tf.config.list_physical_devices("GPU")[0]) or []
        if device.memory_limit
    ]
    if limits:
        return limits[0] * 2**20
    from tensorflow.python.client import device_lib  # there is no public way to ask

    limits = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return limits[0] if limits else None


def memory_line(model: keras.Model, batch_size: int) -> str:
    """The expected memory of a device in one line, with advice when it will hardly fit."""
    expected, has = expected_memory(model, batch_size), device_memory(model.distribute_strategy)
    if expected is None:
        return "unknown: the layers of this encoder do not say what they give"
    line = (
        f"about {_amount(expected.total)} a device: activations {_amount(expected.activations)}, "
        f"variables {_amount(expected.variables + expected.gradients)}, loss {_amount(expected.loss)}"
    )
    if has is None:
        return line
    if expected.total <= HEADROOM * has:
        return f"{line}; it has {_amount(has)}"
    return f"{line}; it has {_amount(has)}, so this may not fit: {ADVICE}"


@contextlib.contextmanager
def naming_lack_of_memory(batch_size: int) -> Iterator[None]:
    """Turns TensorFlow's report that a device is full into one line with the same advice.

    Raises:
        ValueError: in place of that report; every other error passes.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise ValueError(f"A device ran out of memory: {ADVICE}. Received: --batch_size={batch_size}") from error


def _amount(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
