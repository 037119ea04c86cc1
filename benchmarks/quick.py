"""Whether the step is as fast as it was: in ratios to TensorFlow's own convolutions, taken in turns in one process.

    python -m benchmarks.quick                  # what CI runs; exit code 1 if a ratio is above its bound in all attempts
    python -m benchmarks.quick --slower=1.3     # makes everything so much slower on purpose: it must fail

A ratio is that of the best time of a whole step, or of the views in it, to the best times of the step's convolutions
(`benchmarks/kernels.py`). Ratios depend on the processor, so bounds are kept for those on which they were measured, in
`benchmarks/quick.json`; on another one the ratios are printed and not judged.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import harness, kernels
from benchmarks.step import build

BOUNDS = Path(__file__).with_suffix(".json")
BATCH = 64
WIDTH = 0.25


def measure(precision: str, runs: int, slower: float) -> harness.Result:
    """Ratios of the step and the views of a narrow ResNet-18 on random images."""
    model, images = build("resnet18", WIDTH, BATCH, precision)
    import tensorflow as tf

    step, views = tf.function(model.train_step), tf.function(lambda images: model.views(images, 0)[0, 0, 0, 0])

    def delayed(call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        time.sleep((slower - 1) * (time.perf_counter() - start))

    calls: dict[str, list[tuple[int, Callable[[], object]]]] = {
        "step": [(1, lambda: delayed(lambda: float(step(images)["loss"])))],
        "views": [(1, lambda: delayed(lambda: float(views(images))))],
        "convolutions": [
            (number, kernels.passes(convolution, 2 * BATCH, precision))
            for convolution, number in kernels.convolutions(model.encoder).items()
        ],
    }
    best = {name: [math.inf] * len(group) for name, group in calls.items()}
    for turn in range(runs + 1):
        for name, group in calls.items():
            for index, (number, call) in enumerate(group):
                start = time.perf_counter()
                call()
                if turn:  # the first one compiles
                    best[name][index] = min(best[name][index], number * (time.perf_counter() - start))
    seconds = {name: sum(times) for name, times in best.items()}
    return {name: seconds[name] / seconds["convolutions"] for name in ("step", "views")}


def processor() -> str:
    """Vendor, family and model of the processor."""
    info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    fields = {name.strip(): value.strip() for name, value in info.items()}
    words = (fields.get(name, "unknown") for name in ("vendor_id", "cpu family", "model"))
    return " ".join(words)


def rows(found: Mapping[str, Mapping[str, float]], bounds: Mapping[str, Mapping[str, float]]) -> list[harness.Result]:
    """What the table says: each ratio, its bound if there is one, and whether it is kept."""
    return [
        {"": f"{name}, {precision}", "ratio": ratio, "verdict": "not judged" if bound is None else
         f"within {bound:g}" if ratio <= bound else f"ABOVE {bound:g}"}
        for precision, ratios in found.items()
        for name, ratio in ratios.items()
        for bound in [bounds.get(precision, {}).get(name)]
    ]  # fmt: skip


def above(table: list[harness.Result]) -> bool:
    """Whether a ratio is above its bound."""
    return any(row["verdict"].startswith("ABOVE") for row in table)


def main() -> None:
    """Prints a table; exits with 1 if a ratio is above its bound."""
    args = harness.arguments(__doc__, runs=15, slower=1.0, attempts=3)
    bounds = json.loads(BOUNDS.read_text()).get(processor(), {})
    precisions = ("float32", "bfloat16") if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else ("float32",)
    found: dict[str, dict[str, float]] = {}
    for _ in range(args.attempts):
        for one in precisions:
            now = harness.own(measure, precision=one, runs=args.runs, slower=args.slower)
            # What else the machine does slows a step down more than a convolution, so the best attempt counts.
            found[one] = {name: min(ratio, found.get(one, now)[name]) for name, ratio in now.items()}
        table = rows(found, bounds)
        if not above(table):
            break
    harness.show(
        f"ratios to the convolutions, {processor()}", {"": "", "ratio": ".3f", "verdict": ""}, table, args.json
    )
    sys.exit(above(table))


if __name__ == "__main__":
    main()
