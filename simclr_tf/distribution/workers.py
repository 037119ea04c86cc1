"""Several processes that train together: which one writes files, whether they agree, and how a lost one is reported."""

import contextlib
import re
import zlib
from collections.abc import Iterator

import tensorflow as tf


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: the first worker, or the only process."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """The number of processes that train together; 1 for a TPU, whose hosts are led by one process."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return max(1, sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values()))


def require_agreement(strategy: tf.distribute.Strategy, text: str) -> None:
    """Waits for all workers and checks that they are about to do the same thing, told by `text`.

    Raises:
        ValueError: On every worker, if `text` differs between them.
        ConnectionError: If a worker has stopped.
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
            "All workers need the same settings, the same data and, with `resume`, the same `run_dir` on a shared file "
            f"system. Received: {text} on this worker, something else on another"
        )


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers get here: one that exits while others are busy would be reported as lost."""
    require_agreement(strategy, "waiting")


class LostWorkerError(ConnectionError):
    """Another worker is gone."""


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Reduces TensorFlow's report that another worker is gone to one line.

    A worker that died is noticed immediately, because its connections break; one that hangs, or whose host is down, after
    the 10 seconds that TensorFlow's coordination service waits for a heartbeat.

    Raises:
        LostWorkerError: Instead of that report; all other errors pass through.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or not re.search("ollective|oordination|eartbeat", str(error)):
            raise
        resolver = strategy.cluster_resolver
        others = set(re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error)))
        others -= {(resolver.task_type, str(resolver.task_id))}
        names = " and ".join(sorted(f"{job} {task}" for job, task in others)) or "another worker"
        raise LostWorkerError(
            f"Lost {names}, so this worker stops as well. Find out why, then start all workers again: with `resume` they "
            f"continue from the newest checkpoint. Received: {type(error).__name__}"
        ) from error
