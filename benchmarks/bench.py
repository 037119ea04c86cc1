"""All timings of the step in one go, as JSON and Markdown: what `docs/results/speed.md` is made of.

    python -m benchmarks.bench --out=runs/bench --peer_python=.peer/bin/python      # about 20 minutes on two idle cores

writes OUT.json and OUT.md: the step of three networks in both precisions, beside lightly where its environment is given;
the extraction of features; the start of a training; all with processor, threads and versions.
"""

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import extraction, harness, kernels, startup, step
from benchmarks.quick import processor
from simclr_tf import files

NETWORKS = [("resnet50", 1.0, 32), ("resnet18", 1.0, 64), ("resnet18", 0.25, 256)]  # encoder, width, batch size
PRECISIONS = ("float32", "bfloat16")


def steps(peer_python: str, runs: int, turns: int) -> list[harness.Result]:
    """Rows of all networks in both precisions."""
    rows = []
    for precision in PRECISIONS:
        peak = harness.own(kernels.peak, precision=precision)["flops"]
        for encoder, width, batch in NETWORKS:
            settings = {"encoder": encoder, "width": width, "batch_size": batch, "precision": precision, "runs": runs}
            found = step.in_turns(peer_python, turns, **settings)
            name = f"{encoder} x {width:g}, batch {batch}, {precision}"
            rows += [{"network": name, **step.row(one, found, batch, peak)} for one in found]
    return rows


def features(turns: int) -> list[harness.Result]:
    """Images a second of a narrow encoder, by ours and by Keras."""
    rows = []
    for precision in ("float32", "mixed_bfloat16"):
        settings = {"encoder": "resnet18", "width": 0.25, "precision": precision, "images": 10_000, "runs": 3}
        ways = {way: partial(harness.own, extraction.measure, way=way, **settings) for way in ("extract", "predict")}
        found = harness.in_turns(ways, "seconds", turns)
        rows += [{"": f"{way}, {precision}", "images/s": 10_000 / seconds} for way, seconds in found.items()]
    return rows


def markdown(columns: Mapping[str, str], rows: Iterable[harness.Result]) -> str:
    """A table in Markdown."""
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if form else "---" for form in columns.values()) + "|",
    ]
    for row in rows:
        lines.append(
            "| " + " | ".join(format(row[name], form) if name in row else "" for name, form in columns.items()) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Writes both files."""
    args = harness.arguments(__doc__, shows=False, out="runs/bench", runs=5, turns=2, peer_python="")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
    tables = {
        "step": ({"network": "", **step.COLUMNS}, steps(args.peer_python, args.runs, args.turns)),
        "features": ({"": "", "images/s": ".0f"}, features(args.turns)),
        "start": (startup.COLUMNS, startup.rows("cifar10_cpu", "auto", 3)),
    }
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), **versions}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(Path(f"{out}.json"), {**machine, **{name: rows for name, (_, rows) in tables.items()}})
    text = "\n\n".join(markdown(*table) for table in tables.values())
    files.write_text(Path(f"{out}.md"), f"{json.dumps(machine)}\n\n{text}\n")
    print(text)


if __name__ == "__main__":
    main()
