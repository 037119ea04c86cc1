"""Runs the cells of a study, several at once if wanted, by the same entry points as a run by hand."""

import fcntl
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from simclr_tf.studies.runs import USAGE, Run
from simclr_tf.training.run_folder import write_json

Environment = dict[str, str]

# One at a time: until it becomes another program, a new process holds copies of this one's files, and so of the locks.
_STARTING = threading.Lock()


class Failure(Exception):
    """A run that ended with an error; the message is the last line that it printed."""


def execute(
    runs: Sequence[Run],
    places: Sequence[Environment],
    report: Callable[[Run, Exception | None], None] = lambda run, error: None,
) -> list[Run]:
    """Runs what is not done.

    A run is a process of `train.py` and one of `evaluate.py`. One that fails stops no other.

    Args:
        runs: of one study.
        places: an environment for each of the runs at once, as `environments` makes them.
        report: called after each run, in this thread, with what went wrong.

    Returns:
        Those that failed.
    """
    free: queue.SimpleQueue[Environment] = queue.SimpleQueue()
    for place in places:
        free.put(place)
    failed, running = [], set[subprocess.Popen]()
    with _workers(len(places), running) as workers:
        waiting = [run for run in runs if run.state() != "done"]
        futures: dict[Future, Run] = {workers.submit(_in_place, run, free, running): run for run in waiting}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, (Failure, OSError)):
                raise error
            if error is not None:
                failed.append(futures[future])
            report(futures[future], error if isinstance(error, Exception) else None)
    return failed


def environments(jobs: int, gpus: Sequence[str] = ()) -> list[Environment]:
    """Variables with which several processes leave each other room; the user's own settings go first.

    Args:
        jobs: how many processes at once.
        gpus: CUDA devices to deal out, one a job; without, every job sees all.

    Raises:
        ValueError: when there is no job, or there are more than devices.
    """
    if jobs < 1 or (gpus and jobs > len(gpus)):
        raise ValueError(f"--jobs must be 1 or more, and no more than --gpus. Received: {jobs}")
    if gpus:
        return [{**os.environ, "CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:jobs]]
    if jobs == 1:
        return [{**os.environ}]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    own = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    return [{**own, **os.environ}] * jobs


@contextmanager
def _workers(jobs: int, running: set[subprocess.Popen]) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for processes; whatever ends the block early ends the processes, too."""
    workers = ThreadPoolExecutor(jobs)
    try:
        yield workers
    except BaseException:
        workers.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
        raise
    finally:
        workers.shutdown()


def _in_place(run: Run, free: "queue.SimpleQueue[Environment]", running: set[subprocess.Popen]) -> None:
    place = free.get()
    try:
        run_one(run, place, running)
    finally:
        free.put(place)


def run_one(run: Run, environ: Environment, running: set[subprocess.Popen]) -> None:
    """Trains and judges one cell, and writes down what that took.

    Raises:
        Failure: when one of the two processes ends with an error.
    """
    usage = run.usage()
    if not run.trained:
        usage["whole"] = run.state() == "to do"  # else the times are those of a part
    run.log.parent.mkdir(parents=True, exist_ok=True)
    for step, command in run.commands().items():
        if step == "train" and run.trained:
            continue
        seconds, mib = timed(command, run.log, environ, running)
        usage |= {f"{step}_seconds": round(seconds, 1), f"{step}_mib": round(mib)}
    write_json(run.folder / USAGE, usage)


def timed(
    command: Sequence[str], log: Path, environ: Environment, running: set[subprocess.Popen]
) -> tuple[float, float]:
    """Runs a process to its end.

    Args:
        command: its words.
        log: takes what it prints, after what is there.
        environ: its environment.
        running: holds the process meanwhile.

    Returns:
        Seconds, and the most memory that it held, in MiB.

    Raises:
        Failure: when it ends with an error, or another process is at it.
    """
    begin = time.perf_counter()
    with log.open("ab") as file:
        with _STARTING:
            try:
                # The process inherits the lock with its output: also one that outlives a killed study keeps it.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Failure(f"another process is at work on it, see {log}") from error
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environ)
            running.add(process)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        running.discard(process)
    if process.returncode:
        raise Failure(f"{last_line(log)} (exit code {process.returncode}; {log})")
    return time.perf_counter() - begin, used.ru_maxrss / 1024


def last_line(log: Path) -> str:
    """The last line with anything in it."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
