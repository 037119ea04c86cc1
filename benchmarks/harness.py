"""What the benchmarks share: a timer, one process for each measurement, turns, command lines and the table.

    python -m benchmarks.harness benchmarks.step:measure '{"encoder": "resnet18", "batch_size": 8, "runs": 1}'

calls one function of a benchmark and prints its result as a line of JSON. The benchmarks start such a process for each
measurement, because the peak of a process's memory never falls and a process can have only one strategy. Absolute times
drift on shared machines: quote ratios within one run.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Result = dict[str, Any]
PEER = {"peer_python": sys.executable, "peer_script": ""}  # options of a benchmark that has a peer


def measure(call: Callable[[], object], runs: int) -> Result:
    """Time and memory of a call, which must end with a value on the host.

    Returns:
        `first` (seconds of the first call, which compiles), `best` and `median` (seconds of the `runs` calls after it),
        and `extra_peak_mib` (growth of the process's peak memory since before the first call).
    """
    before, times = peak_mib(), []
    for _ in range(runs + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    first, *later = times
    memory = peak_mib() - before
    return {"first": first, "best": min(later), "median": statistics.median(later), "extra_peak_mib": memory}


def peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(*command: object) -> Result:
    """The last line that a command prints, parsed as JSON; RuntimeError with its standard error if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"expected a line of JSON from {words}. Received: {done.stdout[-1000:]!r}") from None


def own(function: Callable[..., Result], python: Sequence[str] = (sys.executable,), **settings: Any) -> Result:
    """The result of a benchmark's function in a process of its own, `python` being the interpreter's command."""
    module = sys.modules[function.__module__].__spec__.name  # not "__main__"
    return run(*python, "-m", "benchmarks.harness", f"{module}:{function.__name__}", json.dumps(settings))


def peer(args: argparse.Namespace, *words: object) -> Result:
    """The result of the peer's script, called with these words."""
    return run(args.peer_python, args.peer_script, *words)


def taken(measurements: Mapping[str, Callable[[], Result]], turns: int) -> dict[str, list[Result]]:
    """The results of each measurement; all are taken in turn, `turns` times."""
    found: dict[str, list[Result]] = {name: [] for name in measurements}
    for _ in range(turns):
        for name, measurement in measurements.items():
            found[name].append(measurement())
    return found


def in_turns(measurements: Mapping[str, Callable[[], Result]], key: str, turns: int) -> dict[str, float]:
    """The median of one value of each measurement; all are taken in turn, `turns` times."""
    results = taken(measurements, turns)
    return {name: statistics.median(result[key] for result in found) for name, found in results.items()}


def arguments(
    doc: str | None, argv: Sequence[str] | None = None, shows: bool = True, **defaults: Any
) -> argparse.Namespace:
    """Parses a command line, `sys.argv` if it is not given.

    Each default is an option and sets its type: a list takes several values, False is a switch. A benchmark that `shows`
    its results has `--json`, too.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {**defaults, **({"json": False} if shows else {})}.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            several = isinstance(value, list)
            kind, count = (type(value[0]), "+") if several else (type(value), None)
            parser.add_argument(f"--{name}", type=kind, nargs=count, default=value, help=f"default: {value}")
    return parser.parse_args(argv)


def show(title: str, columns: Mapping[str, str], rows: Iterable[Result], as_json: bool = False) -> None:
    """Prints a table, or its rows as a line of JSON.

    `columns` maps headings to the formats of their values; those without one are aligned left. `rows` map headings to
    values; a missing one leaves its cell empty.
    """
    if as_json:
        print(json.dumps(list(rows)))
        return
    from rich.console import Console  # not at the top: JAX's environment has no rich
    from rich.table import Table

    table = Table(title=title)
    for name, form in columns.items():
        table.add_column(name, justify="right" if form else "left")
    for row in rows:
        table.add_row(*(format(row[name], form) if name in row else "" for name, form in columns.items()))
    Console(width=120).print(table)


if __name__ == "__main__":
    _module, _function = sys.argv[1].split(":")
    print(json.dumps(getattr(importlib.import_module(_module), _function)(**json.loads(sys.argv[2]))))
