"""Time and memory of the contrastive loss, forward and backward, on the CPU.

    python -m benchmarks.objectives
    python -m benchmarks.objectives --pairs 512 2048 --similarity negative_manhattan
    python -m benchmarks.objectives --peer_python .peer/bin/python --peer_script lightly_bench.py

Each size runs in a process of its own, for the peak of a process's memory never falls; memory is what that peak grows
by from just before the first call, compilation included. A peer's script is called as `script loss --pairs N` and
prints a line of JSON with `seconds` and `extra_peak_mib`; it runs right before the size's own measurement. Quote the
ratios: the times depend on what else the machine does.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from simclr_tf.config import LOSSES, SIMILARITIES

DIM = 128


def main() -> None:
    """Prints a table, a row a size."""
    args = _arguments()
    if args.one:
        print(json.dumps(measure(args.one, args.loss, args.similarity, args.runs)))
        return
    table = Table(title=f"{args.loss}, {args.similarity}, {DIM} dimensions: loss and gradient")
    columns = ["pairs", "s", "s, first call", "extra peak MiB"]
    columns += ["peer s", "peer extra MiB", "times faster", "memory ratio"] if args.peer_script else []
    for column in columns:
        table.add_column(column, justify="right")
    for pairs in args.pairs:
        peer = _peer(args, pairs) if args.peer_script and pairs <= args.peer_max_pairs else None
        own = _run([sys.executable, "-m", "benchmarks.objectives", "--one", str(pairs), *_settings(args)])
        table.add_row(*_row(pairs, own, peer))
    Console().print(table)


def measure(pairs: int, loss: str, similarity: str, runs: int) -> dict[str, float]:
    """Median seconds of a call, seconds of the first, which compiles, and MiB that the peak of memory grew by."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.objectives import Objective

    objective = Objective(loss, similarity)
    objective.build((None, DIM))

    @tf.function
    def step(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = objective(z).loss
        return tape.gradient(value, z)

    z = tf.random.stateless_normal([2 * pairs, DIM], seed=[0, 0])
    before = _peak_mib()
    times = [_timed(step, z) for _ in range(runs + 1)]
    return {
        "seconds": statistics.median(times[1:]),
        "first_call": times[0],
        "extra_peak_mib": _peak_mib() - before,
    }


def _timed(step, z) -> float:
    start = time.perf_counter()
    step(z).numpy()
    return time.perf_counter() - start


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _row(pairs: int, own: dict, peer: dict | None) -> list[str]:
    cells = [f"{pairs}", f"{own['seconds']:.3f}", f"{own['first_call']:.2f}", f"{own['extra_peak_mib']:.0f}"]
    if peer:
        cells += [f"{peer['seconds']:.3f}", f"{peer['extra_peak_mib']:.0f}"]
        cells += [f"{peer[key] / own[key]:.1f}" for key in ("seconds", "extra_peak_mib")]
    return cells


def _peer(args: argparse.Namespace, pairs: int) -> dict:
    command = [args.peer_python, Path(args.peer_script).name, "loss", "--pairs", str(pairs), "--runs", str(args.runs)]
    return _run(command, cwd=Path(args.peer_script).parent)


def _run(command: list[str], cwd: Path | None = None) -> dict:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _settings(args: argparse.Namespace) -> list[str]:
    return ["--loss", args.loss, "--similarity", args.similarity, "--runs", str(args.runs)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[512, 2048, 4096, 8192], help="sizes of the batch")
    parser.add_argument("--loss", default="nt_xent", choices=LOSSES)
    parser.add_argument("--similarity", default="cosine", choices=SIMILARITIES)
    parser.add_argument("--runs", type=int, default=5, help="calls after the first, of which the median counts")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter of the peer's environment")
    parser.add_argument("--peer_script", help="the peer's benchmark")
    parser.add_argument("--peer_max_pairs", type=int, default=4096, help="largest batch for the peer, for its memory")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
