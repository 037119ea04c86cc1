"""The rows of docs/results/cifar10.md: full trainings on CIFAR-10, with log, command and wall-clock.

    python -m benchmarks.ledger --name=cpu30 --seeds 0 1 2 --data_dir=DIR -- --flagfile=recipe:cifar10_cpu

trains each seed, judges it by `linear` and `knn` on the test images, and keeps what anyone needs to check the row in
docs/results/cifar10/NAME-seedS: settings, metrics.csv, the records, and the encoder (see kept_encoder.py). Begun again,
it goes on where it was; the seconds of all parts add up. With `--bundle=B`, the run is one that gpu_bundle.py restored.
"""

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import gpu_bundle, harness, kept_encoder
from simclr_tf import files
from simclr_tf.config import Config
from simclr_tf.training import metrics, run_folder
from simclr_tf.training.signals import Interrupted, interruptible

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "results" / "cifar10"
RUNS = ROOT / "runs" / "ledger"
MODES = ("linear", "knn")
NOT_OF_THE_RECIPE = ("--run_dir", "--seed", "--resume", "--data_dir")


def train(run_dir: Path, words: list[str]) -> None:
    """Trains, or goes on, and adds the seconds of this process to the run's own record."""
    path = run_dir / "ledger.json"
    before = json.loads(path.read_text()) if path.exists() else {"seconds": 0.0, "words": words}
    if before.get("words", words) != words:
        sys.exit(f"ledger: error: {run_dir} was trained with other flags: take another --name")
    mark = run_dir.with_name(f"{run_dir.name}.training")
    if mark.exists():
        sys.exit(f"ledger: error: {run_dir} is training, or was killed and its time is unknown: remove it and {mark}")
    last = run_dir / "encoder" / "saved_model.pb"
    if last.exists() and run_folder.complete(run_dir, before=last):
        return
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    start = time.perf_counter()
    command = [sys.executable, "train.py", *words, f"--run_dir={run_dir}", "--resume"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)  # which gets no signal but ours
    try:
        with interruptible("the same command goes on"):
            code = process.wait()
    except Interrupted as interrupted:
        process.terminate()  # on which it saves, whatever ended this process
        code = process.wait() or 128 + interrupted.number
    if run_dir.exists():
        seconds = round(before["seconds"] + time.perf_counter() - start, 1)
        files.write_json(path, {"seconds": seconds, "hardware": cpu(), "words": words})
    mark.unlink()
    if code:
        sys.exit(code)


def cpu() -> str:
    """The processor's name and the number of cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    bf16 = ", bf16" if any("avx512_bf16" in line for line in lines) else ""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' if cores > 1 else ''} {name}{bf16}"


def command_of(words: list[str]) -> str:
    """The command of a row, whatever its seed."""
    return f"python train.py {shlex.join(words)}"


def keep(run_dir: Path, folder: Path, words: list[str], data_dir: str) -> None:
    """Copies of a finished run what its row is made of, and judges the encoder, as it is kept if it is small enough."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np

    from simclr_tf import encoders
    from simclr_tf.places import results_folder
    from simclr_tf.training import checkpoints

    saved = checkpoints.loaded(run_dir / "checkpoints")
    weights = {variable.path for variable in encoders.load_encoder(run_dir).variables}
    arrays = {path: np.asarray(array) for path, array in saved.variables.items() if path in weights}
    judged = run_dir
    with files.replacing_folder(folder) as temporary:
        temporary.mkdir(parents=True)
        shutil.copy(run_dir / "metrics.csv", temporary)
        # Without the paths of the machine that it was run on.
        config = (
            Config.load(run_dir / "config.json")
            .replace("data", data_dir=None, judge_data_dir=None)
            .replace("output", run_dir=None, resume=False)
        )
        files.write_json(temporary / "config.json", config.to_dict())
        if kept_encoder.keep(temporary, saved.position, arrays, saved.meta):
            judged = run_dir / "kept"
            kept_encoder.make_run(temporary, judged)
        data = Config.load(judged / "config.json").data
        results = results_folder(judged, 0, (data.dataset, data_dir), data)
        for mode in MODES:
            subprocess.run(
                [sys.executable, "evaluate.py", f"--run_dir={judged}", f"--mode={mode}", f"--data_dir={data_dir}"],
                cwd=ROOT, check=True,
            )  # fmt: skip
            record = json.loads((results / f"{mode}.json").read_text())
            files.write_json(temporary / "evaluation" / f"{mode}.json", record | {"data_dir": None})
        record = json.loads((run_dir / "ledger.json").read_text())
        record.pop("words", None)  # they name the folder of the data
        if (environment := run_dir / "environment.json").exists():  # a bundle has none
            record["packages"] = json.loads(environment.read_text()).get("packages")
        files.write_json(temporary / "ledger.json", {**record, "command": command_of(words)})


def from_bundle(bundle: Path, words: list[str]) -> int:
    """Makes the ledger's record of a restored bundle, and returns the run's seed."""
    if not (bundle / "metrics.csv").exists():
        sys.exit(f"ledger: error: expected a bundle that `gpu_bundle restore` was run on. Received: --bundle={bundle}")
    config, rows = Config.load(bundle / "config.json"), metrics.read_rows(bundle / "metrics.csv")
    if different := gpu_bundle.config_of(words).difference(bundle, aside=("seed",)):
        name, there, here = different
        sys.exit(f"ledger: error: {bundle} was lowered with {name}={there}. Received: {name}={here}, after --")
    found = json.loads((bundle / "out" / "device.json").read_text())
    if len(rows) != config.training.epochs or rows[-1]["step"] != found["step"]:
        sys.exit(
            f"ledger: error: {bundle} has {len(rows)} of {config.training.epochs} epochs: run and restore it first"
        )
    record = {"seconds": found["seconds"], "hardware": found["device"], "packages": {"jax": found["jax"]}}
    files.write_json(bundle / "ledger.json", record)
    return config.training.seed


def require_alike(kept: Path, name: str, command: str) -> None:
    """Ends the process if seeds of the name were trained by another command: their mean would be of nothing."""
    for path in kept.glob(f"{name}-seed*/ledger.json"):
        if (before := json.loads(path.read_text())["command"]) != command:
            sys.exit(f"ledger: error: {path.parent.name} was trained by `{before}`: take another --name")


def table(kept: Path) -> str:
    """The ledger's table, a row for each folder, and the mean and deviation of rows that differ by the seed alone."""
    lines = [
        "| run | hardware | minutes | epochs | linear, % | kNN, % | parameters |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted(path.parent for path in kept.glob("*/ledger.json")):
        ledger = json.loads((folder / "ledger.json").read_text())
        found = {mode: json.loads((folder / "evaluation" / f"{mode}.json").read_text()) for mode in MODES}
        last = metrics.read_rows(folder / "metrics.csv")[-1]
        row = {"folder": folder, **ledger, **{mode: 100 * record["top1"] for mode, record in found.items()},
               "epochs": last["epoch"], "parameters": found["linear"]["encoder_parameters"]}  # fmt: skip
        groups.setdefault(folder.name.rpartition("-seed")[0], []).append(row)
    commands = []
    for name, rows in groups.items():
        for row in rows:
            minutes, name_of = row["seconds"] / 60, row["folder"].name
            lines.append(
                f"| [{name_of}]({kept.name}/{name_of}) | {row['hardware']} | {minutes:.1f} | {row['epochs']} | "
                f"{row['linear']:.1f} | {row['knn']:.1f} | {row['parameters'] / 1e6:.2f} M |"
            )
        if len(rows) > 1:
            means = [
                f"**{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}**"
                for values in ([row[mode] for row in rows] for mode in MODES)
            ]
            lines.append(f"| {name}, {len(rows)} seeds | | | | {' | '.join(means)} | |")
        commands.append(f"- `{name}`: `{rows[0]['command']}`")
    return "\n".join([*lines, "", *commands, ""])


def main() -> None:
    """Trains and judges the seeds, and writes the table."""
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = harness.arguments(__doc__, sys.argv[1:cut], shows=False, name="", seeds=[0], data_dir="", bundle="")
    words = sys.argv[cut + 1 :]
    if not args.name or not args.data_dir:
        sys.exit("ledger: error: expected --name, --data_dir and, after --, the flags of a recipe")
    if own := [word for word in words if word.startswith(NOT_OF_THE_RECIPE)]:
        sys.exit(
            f"ledger: error: expected the flags of a recipe after --; folders and seeds go before. Received: {own}"
        )
    require_alike(KEPT, args.name, command_of(words))
    if args.bundle:
        bundle = Path(args.bundle)
        keep(bundle, KEPT / f"{args.name}-seed{from_bundle(bundle, words)}", words, args.data_dir)
    else:
        for seed in args.seeds:
            run_dir = RUNS / f"{args.name}-seed{seed}"
            train(run_dir, [*words, f"--seed={seed}", f"--data_dir={args.data_dir}"])
            keep(run_dir, KEPT / run_dir.name, words, args.data_dir)
    page = KEPT.with_suffix(".md")
    begin, _, rest = page.read_text().partition("<!-- table -->")
    _, _, end = rest.partition("<!-- end -->")
    files.write_text(page, f"{begin}<!-- table -->\n\n{table(KEPT)}\n<!-- end -->{end}")
    print(page)


if __name__ == "__main__":
    main()
