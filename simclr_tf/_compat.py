"""The only place that imports private parts of TensorFlow and Keras, each with the reason why nothing public serves."""

import importlib.metadata

import keras
import tensorflow as tf

# Layers without a name are numbered through the process; there is no public way to start again.
from keras.src.utils.naming import reset_uids

# The memory that TensorFlow allows itself on a GPU; the public details of a device do not have it.
from tensorflow.python.client import device_lib

# There is a public way to request deterministic kernels, but none to find out whether they were requested.
from tensorflow.python.framework.config import is_op_determinism_enabled

# Whether XLA compiles the function that is being traced; nothing public tells.
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

# The format of a trace, which TensorFlow writes and offers no public way to read.
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

__all__ = [
    "HAS_XLA",
    "XSpace",
    "calls_of",
    "compiled_by_xla",
    "gpu_memory",
    "is_op_determinism_enabled",
    "layers_of",
    "reset_uids",
]

# TensorFlow's build for TPUs has no XLA for the host's CPU. A TPU compiles the whole step by itself.
HAS_XLA = not any(importlib.metadata.distributions(name="tensorflow-tpu"))


def compiled_by_xla() -> bool:
    """Whether XLA compiles what is being traced."""
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    """The layer and all within it; nothing public lists those of a layer that is no model."""
    return layer._flatten_layers()


def calls_of(model: keras.Model) -> list[tuple[keras.Layer, list[keras.KerasTensor]]]:
    """The calls in a functional model: each time the layer, and the tensors that it reads; nothing public lists them."""
    nodes = (getattr(model, "_functional", None) or model)._nodes_by_depth
    return [(node.operation, node.input_tensors) for depth in nodes.values() for node in depth]


def gpu_memory() -> int | None:
    """Bytes that TensorFlow may allocate on the first GPU, or None without one."""
    limits = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return limits[0] if limits else None
