"""Makes the `tf.distribute.Strategy` that the settings name, and describes its devices."""

import json
import os
import socket

import tensorflow as tf

from simclr_tf.config import Hardware
from simclr_tf.distribution import slurm
from simclr_tf.distribution.workers import num_workers

TPU_PORT = 8470
CONNECT_TIMEOUT = 20.0  # seconds to reach a TPU's host


def make_strategy(hardware: Hardware) -> tf.distribute.Strategy:
    """Splits the CPU if required and makes the strategy. Call it before TensorFlow initializes its devices.

    Raises:
        ValueError: If the machine lacks what the strategy needs, or TF_CONFIG or SLURM's variables are malformed.
        ConnectionError: If the workers cannot reach each other.
    """
    if hardware.logical_cpus > 1:
        _split_cpu(hardware.logical_cpus)
    return STRATEGIES[hardware.strategy](hardware)


def describe(strategy: tf.distribute.Strategy) -> str:
    """One line about a strategy's replicas, such as "MirroredStrategy, 2 replicas on CPU"."""
    replicas, workers = strategy.num_replicas_in_sync, num_workers(strategy)
    types = sorted({tf.DeviceSpec.from_string(name).device_type for name in devices(strategy)})
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)  # whose class has another name
    name = "MultiWorkerMirroredStrategy" if several else type(strategy).__name__
    name = "" if name.startswith("_") else f"{name.removesuffix('V1').removesuffix('V2')}, "
    line = f"{name}{replicas} replica{'s' if replicas > 1 else ''} on {'/'.join(types)}"
    return line + (f" of {workers} workers" if workers > 1 else "")


def notes(strategy: tf.distribute.Strategy, hardware: Hardware) -> list[str]:
    """What may surprise a user about the devices of a run, one sentence each."""
    if hardware.strategy != "multiworker":
        return []
    if not strategy.cluster_resolver.task_type:
        return ["this process is the only worker: TF_CONFIG is not set"]
    return slurm.notes(os.environ)


def devices(strategy: tf.distribute.Strategy) -> list[str]:
    """The names of the devices that this worker's replicas run on."""
    if strategy.num_replicas_in_sync == 1 and strategy.cluster_resolver is None:
        return _local_devices()[:1]
    return list(strategy.extended.worker_devices)


def on_several_gpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether several replicas share the batch and run on GPUs."""
    return strategy.num_replicas_in_sync > 1 and any("GPU" in name for name in devices(strategy))


def _split_cpu(count: int) -> None:
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise ValueError(
            "The CPU must be split before TensorFlow initializes its devices: start a new process. "
            f"Received: `logical_cpus={count}`"
        ) from error


def _local_devices() -> list[str]:
    """The GPUs of this machine, or its (logical) CPUs if it has none."""
    gpus = tf.config.list_logical_devices("GPU")
    return [device.name for device in gpus or tf.config.list_logical_devices("CPU")]


def _auto(hardware: Hardware) -> tf.distribute.Strategy:
    if os.environ.get("TF_CONFIG"):
        return _multiworker(hardware)
    return _mirrored(hardware) if len(_local_devices()) > 1 else _single(hardware)


def _single(hardware: Hardware) -> tf.distribute.Strategy:
    device = _local_devices()[0]
    # OneDeviceStrategy prefetches to the device. On a CPU that gains nothing, and its autotuning thread, which cannot be
    # turned off, delays the end of training by up to a minute.
    return tf.distribute.OneDeviceStrategy(device) if "GPU" in device else tf.distribute.get_strategy()


def _mirrored(hardware: Hardware) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(_local_devices())


def _multiworker(hardware: Hardware) -> tf.distribute.Strategy:
    if "TF_CONFIG" not in os.environ and (config := slurm.tf_config(os.environ)):
        os.environ["TF_CONFIG"] = config  # for TensorFlow, which asks other kinds of resolvers for the number of GPUs
    if "TF_CONFIG" in os.environ:  # without it this process is the only worker, see `notes`
        _check_tf_config(os.environ["TF_CONFIG"])
    if hardware.communication == "nccl" and not tf.config.list_physical_devices("GPU"):
        raise ValueError("`communication=nccl` needs GPUs, and this worker has none. Received: nccl")
    implementation = tf.distribute.experimental.CommunicationImplementation[hardware.communication.upper()]
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=implementation)
        )
    except tf.errors.OpError as error:
        raise ConnectionError(
            f"The workers could not connect. Received: {_reason(error)}; TF_CONFIG={os.environ.get('TF_CONFIG')}"
        ) from error


def _check_tf_config(text: str) -> None:
    """Raises ValueError unless the variable lists the workers and says which one this is."""
    try:
        value = json.loads(text)
        task = value["task"]
        if task["type"] not in ("chief", "worker"):
            raise KeyError(task["type"])
        addresses = value["cluster"][task["type"]]
        if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
            raise TypeError(addresses)
        if int(task["index"]) not in range(len(addresses)):
            raise IndexError(task["index"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            "With `strategy=multiworker`, the environment variable TF_CONFIG lists the workers and says which one this is: "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}; '
            f"simclr-launch sets it for workers on this machine. Received: {text!r}"
        ) from error


def _tpu(hardware: Hardware) -> tf.distribute.Strategy:
    try:
        _check_reachable(hardware.tpu)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=hardware.tpu)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise ValueError(
            "`strategy=tpu` needs a TPU: on a TPU VM, install requirements-tpu.txt and keep `tpu=local`; elsewhere, set "
            f"`tpu` to its name or to grpc://host:{TPU_PORT}. Received: `tpu={hardware.tpu}` ({_reason(error)})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _check_reachable(tpu: str) -> None:
    """Raises OSError if nothing answers at a `grpc://` address, which TensorFlow would retry forever."""
    if tpu.startswith("grpc://"):
        host, _, port = tpu.removeprefix("grpc://").partition(":")
        socket.create_connection((host, int(port or TPU_PORT)), CONNECT_TIMEOUT).close()


def _reason(error: Exception) -> str:
    if "No OpKernel was registered" in str(error):
        return "this TensorFlow was built without support for TPUs"
    return (str(error).splitlines() or [type(error).__name__])[0]


STRATEGIES = {"auto": _auto, "single": _single, "mirrored": _mirrored, "multiworker": _multiworker, "tpu": _tpu}
