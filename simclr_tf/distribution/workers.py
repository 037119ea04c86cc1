"""Several processes that train together: who writes, whether they agree, and what is said when one is lost."""

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
            "All workers need the same flags, the same data and, with `resume`, the same run_dir on a file system that "
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
            f"Lost {names}, so this worker ends, too. See what ended it, then start all workers again: with `resume` "
            f"they continue from the newest checkpoint. Received: {type(error).__name__}"
        ) from error
