"""Decoding on other machines, by TensorFlow's tf.data service, where a step waits for its images.

A worker takes the number of the next batch and decodes that; the training puts the batches back in order, so that it
learns from what it would have decoded itself.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

LOST_BATCH = "A batch did not come from the data service"  # how the message about it begins
PATIENCE = 300  # seconds to wait for a batch
WAITING = 2**32  # bytes of later batches that may come meanwhile


def served(batches: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """The elements of a dataset, each computed by one of the service's workers, in no particular order.

    Args:
        batches: Dataset that is made from one `tf.data.Dataset.range`, whose elements are dealt out.
        address: The dispatcher's `host:port`.
    """
    there, here = tf.data.Options(), tf.data.Options()
    there.autotune.enabled = here.autotune.enabled = False  # as in `pipeline`
    # TensorFlow counts reading files as external state, but every worker reads the same files.
    there.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    policy = tf.data.experimental.service.ShardingPolicy.DYNAMIC  # each element once
    # Pixels of photographs hardly compress.
    distribute = tf.data.experimental.service.distribute(policy, f"grpc://{address}", compression=None)
    return batches.with_options(there).apply(distribute).with_options(here)


def in_order(numbered: tf.data.Dataset, numbers: Callable[[], Iterator[int]]) -> tf.data.Dataset:
    """Pairs of a number and a batch, in any order -> the batches, in the order of `numbers`.

    Args:
        numbered: Pairs of int64 () and anything, of static shapes.
        numbers: Gives the numbers in order, anew each time, without end.

    Returns:
        The batches, without end. One that does not come, because the worker that had it is gone, is an error.
    """

    def ordered() -> Iterator[Any]:
        arriving: queue.Queue[Any] = queue.Queue(1)
        stopped = threading.Event()
        # By a thread, because nothing interrupts TensorFlow while it waits for a worker.
        threading.Thread(target=_fetch, args=(numbered, arriving, stopped), daemon=True).start()
        try:
            waiting: dict[int, Any] = {}
            for number in numbers():
                deadline, size = time.monotonic() + PATIENCE, 0
                while number not in waiting:
                    left = deadline - time.monotonic()
                    if left < 0 or size * len(waiting) > WAITING:
                        raise _lost(f"{len(waiting)} later ones in {PATIENCE - left:.0f} seconds")
                    try:
                        found, batch = arriving.get(timeout=left)
                    except queue.Empty:
                        continue
                    if found is None:
                        raise _lost(batch)
                    waiting[found] = batch
                    size = sum(part.dtype.size * part.shape.num_elements() for part in tf.nest.flatten(batch))
                yield waiting.pop(number)
        finally:
            stopped.set()

    batches = tf.data.Dataset.from_generator(ordered, output_signature=numbered.element_spec[1])
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _fetch(numbered: tf.data.Dataset, arriving: queue.Queue, stopped: threading.Event) -> None:
    """Puts what comes into a queue, and in the end None with the reason."""

    def put(pair: tuple[int | None, Any]) -> None:
        while not stopped.is_set():
            try:
                return arriving.put(pair, timeout=1)
            except queue.Full:
                continue

    try:
        for number, batch in numbered:
            put((int(number), batch))
            if stopped.is_set():
                return
        put((None, "its end"))
    except tf.errors.OpError as error:
        put((None, " ".join(error.message.split())[:300]))


def _lost(received: str) -> ValueError:
    return ValueError(
        f"{LOST_BATCH}: see that the dispatcher and all of its workers run, and continue the run with `resume`; large "
        f"batches, of which several must wait in memory, need fewer workers. Received: {received}"
    )


def start(port: int, dispatcher: str | None, host: str) -> Any:
    """Starts the dispatcher of a service, or one of its workers.

    Args:
        port: Port to listen on; 0 for any.
        dispatcher: `host:port` of the dispatcher to work for; None to be the dispatcher.
        host: Name by which trainings reach this worker.

    Returns:
        The server, which runs for as long as it is referred to.

    Raises:
        ValueError: If it cannot be started, as when the port is taken.
    """
    service = tf.data.experimental.service
    try:
        with socket.socket() as probe:  # TensorFlow would share a port that another dispatcher has
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections do not keep a port
            probe.bind(("", port))
        if dispatcher is None:
            return service.DispatchServer(service.DispatcherConfig(port=port))
        return service.WorkerServer(service.WorkerConfig(dispatcher, f"{host}:%port%", port))
    except OSError as error:
        raise ValueError(f"`port` must be free. Received: {port} ({error})") from error
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise ValueError(f"Expected a `dispatcher` and a `host` that can be reached. Received: {reason}") from error
