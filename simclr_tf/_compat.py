"""The only place that imports private parts of TensorFlow and Keras, each with the reason why nothing public serves."""

import importlib.metadata

import tensorflow as tf

# Layers without a name are numbered through the process; there is no public way to start again.
from keras.src.utils.naming import reset_uids
from tensorflow.python.client import device_lib

# Deterministic kernels can be asked for publicly; whether they were cannot.
from tensorflow.python.framework.config import is_op_determinism_enabled
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

# The format of a trace, which TensorFlow writes and offers no public way to read.
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

__all__ = ["HAS_XLA", "XSpace", "compiled_by_xla", "gpu_memory", "is_op_determinism_enabled", "reset_uids"]

# TensorFlow's build for TPUs has no XLA for the host's CPU. A TPU compiles the whole step by itself.
HAS_XLA = not any(importlib.metadata.distributions(name="tensorflow-tpu"))


def compiled_by_xla() -> bool:
    """Whether XLA compiles what is being traced."""
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def gpu_memory() -> int | None:
    """Bytes of the first GPU as its driver reports them, or None."""
    limits = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return limits[0] if limits else None
