"""What ends a run from outside: Ctrl-C, and the SIGTERM of a scheduler or a machine that is being shut down."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """A run was ended by the signal of this number; its message says how to go on."""

    def __init__(self, number: int, advice: str):
        super().__init__(advice)
        self.number = number


@contextlib.contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Turns SIGINT and SIGTERM in the block into `Interrupted` with this advice."""

    def interrupt(number, frame):
        raise Interrupted(number, advice)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
