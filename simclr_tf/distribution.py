"""From `--strategy` to a `tf.distribute.Strategy`, and the collectives of the train step.

The collectives are written for the replica context, where the train step runs. With one replica they are the identity
and leave no trace in the graph. Outside of any replica (a model being built under a strategy's scope) there is one
image holder only, so they behave like one replica.
"""

import os

import tensorflow as tf

from simclr_tf.config import Hardware


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
    replicas = strategy.num_replicas_in_sync
    devices = sorted({tf.DeviceSpec.from_string(d).device_type for d in strategy.extended.worker_devices})
    name = type(strategy).__name__.removesuffix("V1").removesuffix("V2")
    return f"{name}, {replicas} replica{'s' if replicas > 1 else ''} on {'/'.join(devices)}"


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
    return tf.distribute.OneDeviceStrategy(_local_devices()[0])


def _mirrored(hardware: Hardware) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(_local_devices())


def _multiworker(hardware: Hardware) -> tf.distribute.Strategy:
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(hardware: Hardware) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=hardware.tpu)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            "--strategy=tpu needs a TPU: on a TPU VM install requirements-tpu.txt and keep --tpu=local, elsewhere set "
            f"--tpu to its name or to grpc://host:8470. Received: --tpu={hardware.tpu} ({reason})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


STRATEGIES = {
    "auto": _auto,
    "single": _single,
    "mirrored": _mirrored,
    "multiworker": _multiworker,
    "tpu": _tpu,
}
