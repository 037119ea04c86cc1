"""Seconds from the start of `train.py` to the end of its first step, and to the stages before it.

    python -m benchmarks.startup                       # recipe:cifar10_cpu on the embedded images
    python -m benchmarks.startup --turns=3 --precision=float32

Each turn is a process of its own; the median counts.
"""

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import harness

COLUMNS = {"from the start of the process until": "", "seconds": ".1f"}


def measure(flags: list[str]) -> harness.Result:
    """Seconds from the start of this process to each stage of a training."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age = float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    start, stages = time.perf_counter() - age, {}

    def reach(stage: str) -> None:
        stages.setdefault(stage, time.perf_counter() - start)

    from flags import import_tensorflow
    from flags.train import main as train_main

    import_tensorflow()
    from simclr_tf.tasks import pretrain  # noqa: F401  which flags.train leaves for later
    from simclr_tf.training import callbacks, engine

    reach("everything is imported")

    fit, end_of_step = engine.Run._fit, callbacks.SaveCheckpoints.on_train_batch_end

    def fitting(*args):
        reach("the model is built")
        fit(*args)

    def first_step(*args, **kwargs):
        end_of_step(*args, **kwargs)
        reach("the first step is done")
        raise KeyboardInterrupt

    engine.Run._fit, callbacks.SaveCheckpoints.on_train_batch_end = fitting, first_step
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as sys.stdout:
        sys.argv = ["train.py", *flags, f"--run_dir={folder}/run"]
        try:
            train_main()
        except (KeyboardInterrupt, SystemExit):
            sys.stdout = sys.__stdout__
    if "the first step is done" not in stages:
        raise RuntimeError("the training ended before its first step")
    return stages


def rows(recipe: str, precision: str, turns: int) -> list[harness.Result]:
    """The stages of a recipe's start on the patterns, and the median seconds from the start of the process to each."""
    flags = [f"--flagfile=recipe:{recipe}", "--dataset=patterns", f"--precision={precision}"]
    found = harness.taken({"": partial(harness.own, measure, flags=flags)}, turns)[""]
    medians = {stage: statistics.median(one[stage] for one in found) for stage in found[0]}
    return [dict(zip(COLUMNS, row, strict=True)) for row in medians.items()]


def main() -> None:
    """Prints the stages."""
    args = harness.arguments(__doc__, recipe="cifar10_cpu", precision="auto", turns=3)
    found = rows(args.recipe, args.precision, args.turns)
    harness.show(f"start of recipe:{args.recipe}, {args.precision}", COLUMNS, found, args.json)


if __name__ == "__main__":
    main()
