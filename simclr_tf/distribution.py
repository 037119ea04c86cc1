"""From `--strategy` to a `tf.distribute.Strategy`, and the collectives of the train step.

The collectives are written for the replica context, where the train step runs. With one replica they are the identity
and leave no trace in the graph. Outside of any replica (a model being built under a strategy's scope) there is one
image holder only, so they behave like one replica.
"""

import contextlib
import importlib.metadata
import json
import os
import re
import socket
import zlib
from collections.abc import Iterator

import tensorflow as tf

from simclr_tf.config import Hardware

# TensorFlow's build for TPUs has no XLA for the host's CPU. A TPU compiles the whole step by itself.
HAS_XLA = not any(importlib.metadata.distributions(name="tensorflow-tpu"))
TPU_PORT = 8470
CONNECT_TIMEOUT = 20.0  # seconds, to reach a TPU's host


def num_replicas() -> int:
    """How many replicas share the global batch."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica_id() -> tf.Tensor | int:
    """The position of this replica's images in the global batch: it holds rows `id * B` to `(id + 1) * B`."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def all_sum(x: tf.Tensor) -> tf.Tensor:
    """Sum of `x` over all replicas. Differentiable: the gradient is the sum of the replicas' gradients."""
    if num_replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def all_stack(x: tf.Tensor) -> tf.Tensor:
    """Every replica's `x`, stacked.

    A scatter into zeros and one sum, rather than `all_gather`: it has the same values and gradients, keeps the static
    shape that XLA needs, and runs on a TPU.

    Args:
        x: a tensor of static shape S, the same on all replicas.

    Returns:
        A tensor of shape (replicas, *S).
    """
    replicas = num_replicas()
    if replicas == 1:
        return x[tf.newaxis]
    return all_sum(tf.scatter_nd([[replica_id()]], x[tf.newaxis], [replicas, *x.shape]))


def make_strategy(hardware: Hardware) -> tf.distribute.Strategy:
    """Splits the CPU if asked to and makes the strategy. Call it before TensorFlow touches a device.

    Raises:
        ValueError: when the machine does not have what the strategy needs.
    """
    if hardware.logical_cpus > 1:
        _split_cpu(hardware.logical_cpus)
    return STRATEGIES[hardware.strategy](hardware)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: the first worker, or the only process."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def describe(strategy: tf.distribute.Strategy) -> str:
    """One line about the devices of a strategy."""
    replicas, workers = strategy.num_replicas_in_sync, num_workers(strategy)
    types = sorted({tf.DeviceSpec.from_string(name).device_type for name in devices(strategy)})
    name = "MultiWorkerMirroredStrategy" if workers > 1 else type(strategy).__name__
    name = "" if name.startswith("_") else f"{name.removesuffix('V1').removesuffix('V2')}, "
    line = f"{name}{replicas} replica{'s' if replicas > 1 else ''} on {'/'.join(types)}"
    return line + (f" of {workers} workers" if workers > 1 else "")


def devices(strategy: tf.distribute.Strategy) -> list[str]:
    """The names of the devices on which this worker's replicas run."""
    if strategy.num_replicas_in_sync == 1 and strategy.cluster_resolver is None:
        return _local_devices()[:1]
    return list(strategy.extended.worker_devices)


def on_several_gpus(strategy: tf.distribute.Strategy) -> bool:
    """Whether replicas on GPUs share the batch."""
    return strategy.num_replicas_in_sync > 1 and any("GPU" in name for name in devices(strategy))


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together; a TPU's hosts are led by one."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return max(1, sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values()))


def require_agreement(strategy: tf.distribute.Strategy, text: str) -> None:
    """Makes sure that all workers are about to do the same, and waits for them.

    Raises:
        ValueError: on every worker, when `text` is not the same on all.
        ConnectionError: when a worker has stopped.
    """
    if num_workers(strategy) == 1:
        return

    @tf.function
    def digests():
        own = strategy.run(lambda: tf.constant([zlib.crc32(text.encode())], tf.int64))
        return strategy.gather(own, axis=0)

    with naming_lost_workers(strategy):
        found = digests().numpy()
    if len(set(found)) > 1:
        raise ValueError(
            "All workers need the same flags, the same data and, with --resume, the same run_dir on a file system that "
            f"they share. Received: {text} on this worker, something else on another"
        )


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers are here: one that left while others work would be reported as lost.

    Raises:
        ConnectionError: when a worker has stopped.
    """
    require_agreement(strategy, "waiting")


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's report that another worker is gone into one line.

    A worker that died is noticed at once, when its connections break; one that hangs, or whose host is off, after the
    10 seconds that TensorFlow's coordination service waits for a sign of life.

    Raises:
        ConnectionError: in place of that report; every other error passes.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or not re.search("ollective|oordination|eartbeat", str(error)):
            raise
        resolver = strategy.cluster_resolver
        others = set(re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error)))
        others -= {(resolver.task_type, str(resolver.task_id))}
        names = " ".join(sorted(f"{job} {task}" for job, task in others)) or "another worker"
        raise ConnectionError(
            f"Lost {names}, so this worker ends, too. See what ended it, then start all workers again: with --resume "
            f"they continue from the newest checkpoint. Received: {type(error).__name__}"
        ) from error


def _split_cpu(count: int) -> None:
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise ValueError(
            f"The CPU must be split before TensorFlow uses it, in a fresh process. Received: --logical_cpus={count}"
        ) from error


def _local_devices() -> list[str]:
    """The GPUs of this machine, or its (logical) CPUs where it has none."""
    gpus = tf.config.list_logical_devices("GPU")
    return [device.name for device in gpus or tf.config.list_logical_devices("CPU")]


def _auto(hardware: Hardware) -> tf.distribute.Strategy:
    if os.environ.get("TF_CONFIG"):
        return _multiworker(hardware)
    return _mirrored(hardware) if len(_local_devices()) > 1 else _single(hardware)


def _single(hardware: Hardware) -> tf.distribute.Strategy:
    device = _local_devices()[0]
    # On a CPU there is nothing to place or to send ahead, and the thread that tunes the sending, which nothing can turn
    # off, sleeps for up to a minute when training has ended.
    return tf.distribute.OneDeviceStrategy(device) if "GPU" in device else tf.distribute.get_strategy()


def _mirrored(hardware: Hardware) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(_local_devices())


def _multiworker(hardware: Hardware) -> tf.distribute.Strategy:
    if "TF_CONFIG" in os.environ:  # without it, this process is the only worker
        _check_tf_config(os.environ["TF_CONFIG"])
    if hardware.communication == "nccl" and not tf.config.list_physical_devices("GPU"):
        raise ValueError("--communication=nccl is for GPUs, and this worker has none. Received: nccl")
    implementation = tf.distribute.experimental.CommunicationImplementation[hardware.communication.upper()]
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=implementation)
        )
    except tf.errors.OpError as error:
        raise ConnectionError(
            f"The workers did not get together. Received: {_reason(error)}; TF_CONFIG={os.environ.get('TF_CONFIG')}"
        ) from error


def _check_tf_config(text: str) -> None:
    """Raises ValueError unless the variable names this worker and the others."""
    try:
        value = json.loads(text)
        task = value["task"]
        if task["type"] not in ("chief", "worker"):
            raise KeyError(task["type"])
        value["cluster"][task["type"]][int(task["index"])]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            "--strategy=multiworker takes its place among the workers from the environment variable TF_CONFIG, such as "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}; '
            f"`python -m simclr_tf.launch` sets it for workers on this machine. Received: {text!r}"
        ) from error


def _tpu(hardware: Hardware) -> tf.distribute.Strategy:
    try:
        _check_reachable(hardware.tpu)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=hardware.tpu)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise ValueError(
            "--strategy=tpu needs a TPU: on a TPU VM install requirements-tpu.txt and keep --tpu=local, elsewhere set "
            f"--tpu to its name or to grpc://host:{TPU_PORT}. Received: --tpu={hardware.tpu} ({_reason(error)})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _check_reachable(tpu: str) -> None:
    """Raises OSError when nobody answers at a `grpc://` address, where TensorFlow would try for ever."""
    if tpu.startswith("grpc://"):
        host, _, port = tpu.removeprefix("grpc://").partition(":")
        socket.create_connection((host, int(port or TPU_PORT)), CONNECT_TIMEOUT).close()


def _reason(error: Exception) -> str:
    if "No OpKernel was registered" in str(error):
        return "this TensorFlow was built without support for TPUs"
    return (str(error).splitlines() or [type(error).__name__])[0]


STRATEGIES = {
    "auto": _auto,
    "single": _single,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
