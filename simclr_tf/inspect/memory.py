"""How much memory a run will take on each device, in one line before it starts."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from simclr_tf._compat import gpu_memory
from simclr_tf.distribution import devices, num_workers
from simclr_tf.networks.normalization import SyncBatchNormalization
from simclr_tf.objectives.blocks import BLOCK
from simclr_tf.training.engine import LESS_MEMORY

VIEWS = 2
HEADROOM = 0.9  # of a device's memory; the rest goes to fragments and workspaces
# Whose outputs overwrite their inputs. XLA also recomputes those of batch norms for the backward pass.
IN_PLACE = (keras.layers.ReLU, keras.layers.InputLayer)
RECOMPUTED = (*IN_PLACE, keras.layers.ZeroPadding2D, keras.layers.BatchNormalization, SyncBatchNormalization)


def memory_line(model: keras.Model, batch_size: int) -> str:
    """The expected memory of a device in one line, with advice when it will hardly fit."""
    expected, has = expected_memory(model, batch_size), device_memory(model.distribute_strategy)
    if expected is None:
        return "unknown: the encoder has layers with unknown output shapes"
    total = sum(expected.values())
    parts = ", ".join(f"{name} {_amount(size)}" for name, size in expected.items())
    line = f"about {_amount(total)} a device: {parts}" + (f"; it has {_amount(has)}" if has else "")
    return (
        f"{line}, so this may not fit: raise `accumulate`, or {LESS_MEMORY}" if has and total > HEADROOM * has else line
    )


def expected_memory(model: keras.Model, batch_size: int) -> dict[str, int] | None:
    """Bytes of one replica in a train step by their purpose, good to a factor of about 1.5.

    None for an encoder whose layers have unknown output shapes: a subclass of `keras.Model`, or one for images of any
    size.
    """
    strategy = model.distribute_strategy
    images = VIEWS * batch_size // strategy.num_replicas_in_sync
    compiled = model.jit_compile is True or isinstance(strategy, tf.distribute.TPUStrategy)
    dropped = RECOMPUTED if compiled else IN_PLACE
    outputs = [output for part in (model.encoder, model.head) for output in _outputs(part, dropped)]
    if any(output is None or None in output.shape[1:] for output in outputs):
        return None
    variables = [*model.weights, *model.optimizer.variables, *model.trainable_variables]  # the last for the gradients
    pairs, dim = images * VIEWS * batch_size, math.prod(model.head.output_shape[1:])
    return {
        "activations": images // model.accumulate * sum(_bytes(output.shape[1:], output.dtype) for output in outputs),
        "variables": sum(_bytes(variable.shape, variable.dtype) for variable in variables),
        # Similarities, their logits, exponentials and gradient; then the candidates and their gradient, in float32.
        "loss": 4 * (4 * min(pairs, BLOCK) + 2 * VIEWS * batch_size * dim),
    }


def _outputs(model: keras.Model, dropped: tuple[type, ...]) -> Iterator[Any]:
    """The outputs that the backward pass needs; None for a layer whose outputs are unknown."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _outputs(layer, dropped)
        elif not isinstance(layer, dropped):
            yield from keras.tree.flatten(getattr(layer, "output", None))


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * tf.as_dtype(dtype).size


def device_memory(strategy: tf.distribute.Strategy) -> int | None:
    """Bytes that one device has, None where TensorFlow does not say. Devices on the CPU share what the machine has free."""
    kind = tf.DeviceSpec.from_string(devices(strategy)[0]).device_type
    if kind == "GPU":
        configured = tf.config.get_logical_device_configuration(tf.config.list_physical_devices("GPU")[0]) or []
        limits = [device.memory_limit for device in configured if device.memory_limit]
        return limits[0] * 2**20 if limits else gpu_memory()
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return free // (strategy.num_replicas_in_sync // num_workers(strategy)) if kind == "CPU" else None


def _amount(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
