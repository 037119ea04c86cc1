"""What ends a run from outside: Ctrl-C, SIGTERM, SIGHUP, SLURM's SIGUSR1, and a cloud that takes its machine back.

SLURM sends SIGUSR1 where a job asks for it ahead of its time limit (`#SBATCH --signal=USR1@120`).
"""

import contextlib
import http.client
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

# The signal that the exit code stands for. Like SIGTERM, SIGUSR1 stops a process that is meant to be started again.
_ENDS_AS = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGUSR1: signal.SIGTERM,
            signal.SIGHUP: signal.SIGHUP}  # fmt: skip

_WATCHER = "preemption"  # name of the thread that waits for the notice


class Interrupted(KeyboardInterrupt):
    """A run was ended by the signal of this number; its message says how to go on."""

    def __init__(self, number: int, advice: str):
        super().__init__(advice)
        self.number = number


@contextlib.contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Turns SIGINT, SIGTERM, SIGUSR1 and, without `nohup`, SIGHUP in the block into `Interrupted` with this advice."""

    def interrupt(number, frame):
        raise Interrupted(_ENDS_AS[number], advice)

    with _handling(interrupt):
        yield


class Stop:
    """Whether a run should end after its current step, and by which signal."""

    number: int | None = None

    def now(self, advice: str) -> Interrupted:
        """The exception that ends it."""
        return Interrupted(self.number or signal.SIGTERM, advice)


@contextlib.contextmanager
def stopping(saves: bool = True) -> Iterator[Stop]:
    """Notes a signal in the block, for a loop to end when it can save; a SIGINT after that ends the process at once.

    The other signals may well come twice: from a cloud that shuts its machine down after it said so, or from a launcher
    and from the scheduler above it. A process that `saves` nothing goes on until the one that does has ended.
    """
    stop = Stop()

    def note(number, frame):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if stop.number is not None:
            return
        stop.number = _ENDS_AS[number]
        # Not print: the signal may have come in the middle of one.
        what = (
            "finishing the step, then saving"
            if saves
            else "ending with the chief, which saves if it receives the signal as well"
        )
        with contextlib.suppress(OSError):  # the terminal, or what reads this, may be gone
            os.write(2, f"note     {signal.Signals(number).name}: {what}\n".encode())

    _watch_for_preemption()
    with _handling(note):
        yield stop


@contextlib.contextmanager
def _handling(handler) -> Iterator[None]:
    """Handles the signals in the block, SIGHUP unless it is ignored, as under `nohup`."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in _ENDS_AS if number != signal.SIGHUP or not hangup_ignored]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _watch_for_preemption() -> None:
    """On Google's cloud, sends this process a SIGTERM when its machine, or that of its TPU, is about to be taken back.

    The metadata server answers a request that waits for the change: https://cloud.google.com/compute/docs/instances/preemptible
    """
    if any(thread.name == _WATCHER for thread in threading.enumerate()):
        return
    product = Path("/sys/class/dmi/id/product_name")
    host = os.environ.get("GCE_METADATA_HOST")
    if not host and product.exists() and "Google" in product.read_text():
        host = "metadata.google.internal"
    if host:
        url = f"http://{host}/computeMetadata/v1/instance/preempted?wait_for_change=true"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        threading.Thread(target=_wait_for_preemption, args=(request,), name=_WATCHER, daemon=True).start()


def _wait_for_preemption(request: urllib.request.Request) -> None:
    answer = b""
    while answer != b"TRUE":
        time.sleep(1)
        # A server that is busy, away for a moment, or breaks off.
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(request) as response:
            answer = response.read().strip()
    os.kill(os.getpid(), signal.SIGTERM)
