"""Starts several workers on this machine, each with its TF_CONFIG, and stops all of them when one fails."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

GRACE = 30.0  # seconds; TensorFlow notices a lost worker within about 10 s
POLL = 0.1  # seconds


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on; another process may take one before they are used."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def tf_config(ports: Sequence[int], index: int) -> str:
    """The TF_CONFIG of one worker."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def program(command: Sequence[str]) -> list[str]:
    """The full command line: an installed or executable command as it is, anything else as arguments of Python."""
    found = None
    if not command[0].endswith(".py"):  # in the environment of this Python, too, which may not be active
        found = shutil.which(command[0]) or shutil.which(command[0], path=os.path.dirname(sys.executable))
    return [found, *command[1:]] if found else [sys.executable, *command]


def gpus() -> list[str]:
    """The CUDA devices that a process sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name not in ("", "-1")]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def start(command: Sequence[str], count: int) -> list[subprocess.Popen]:
    """Starts the workers, the chief first.

    Args:
        command: Command line, completed by `program`.
        count: Number of workers.

    Returns:
        Their processes. Each has as many of this machine's GPUs as the others, none if there are fewer than workers. The
        chief's output goes where this process's goes, that of the others to standard error with a prefix.
    """
    ports, workers, devices = free_ports(count), [], gpus()
    share = len(devices) // count
    try:
        for index in range(count):
            environment = {**os.environ, "TF_CONFIG": tf_config(ports, index)}
            if devices:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[index * share : (index + 1) * share]) or "-1"
            out, errors = (subprocess.PIPE, subprocess.STDOUT) if index else (None, None)
            # In a session of its own, so that the terminal's Ctrl-C arrives once, passed on by this process.
            worker = subprocess.Popen(
                program(command), env=environment, stdout=out, stderr=errors, start_new_session=True
            )
            workers.append(worker)
            if index:
                threading.Thread(target=_show, args=(worker.stdout, index)).start()
    except BaseException:  # a process too many for this machine, or Ctrl-C: the others would wait for it
        for worker in workers:
            worker.kill()
        raise
    return workers


def _show(lines: IO[bytes], index: int) -> None:
    for line in lines:
        sys.stderr.write(f"[worker {index}] {line.decode(errors='replace')}")
        sys.stderr.flush()


def wait(workers: Sequence[subprocess.Popen], grace: float = GRACE) -> int:
    """Waits for all workers and stops the rest when one has failed.

    Args:
        workers: Processes that `start` returned.
        grace: Seconds that the others have to exit by themselves, and again between SIGTERM and SIGKILL.

    Returns:
        The highest exit code of the workers that exited by themselves.
    """
    ended: set[int] = set()  # workers that were stopped
    deadline, end = None, signal.SIGTERM
    while None in (codes := [worker.poll() for worker in workers]):
        if deadline is None and any(codes):
            deadline = time.monotonic() + grace
        elif deadline is not None and time.monotonic() > deadline:
            for index in (index for index, code in enumerate(codes) if code is None):
                ended.add(index)
                workers[index].send_signal(end)
            deadline, end = time.monotonic() + grace, signal.SIGKILL
        time.sleep(POLL)
    own = [worker.returncode for index, worker in enumerate(workers) if index not in ended]
    return max(code if code >= 0 else 128 - code for code in own)  # as a shell: 128 + the signal that ended it


def launch(command: Sequence[str], count: int, grace: float = GRACE) -> int:
    """Runs a command as several workers and passes SIGINT, SIGTERM, SIGHUP and SIGUSR1 on to them.

    Args:
        command: Command line, completed by `program`.
        count: Number of workers.
        grace: Seconds as in `wait`.

    Returns:
        The highest exit code, as `wait` returns it.
    """
    workers = start(command, count)

    def pass_on(number, frame):
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, pass_on)
    try:
        return wait(workers, grace)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()


if __name__ == "__main__":
    sys.exit(
        "launch: error: the command is simclr-launch, or python -m flags.launch. Received: python -m simclr_tf.launch"
    )
