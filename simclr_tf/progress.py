"""What a long step shows: a bar with the time left on a terminal, and a line a minute elsewhere, as in a log file."""

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import track

PAUSE = 60.0  # seconds between two lines

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
    """Yields `items` and shows how many of `total` are done.

    Args:
        items: Anything to go through.
        doing: What is being done, such as "extracting features".
        total: How many items there are; more do no harm.
    """
    console = Console()
    if console.is_terminal:
        yield from track(items, doing, total, console=console, transient=True)
        return
    begin = last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PAUSE and number < total:
            left = timedelta(seconds=round((now - begin) / number * (total - number)))
            print(f"{doing}: {number} of {total}, about {left} left", flush=True)
            last = now
