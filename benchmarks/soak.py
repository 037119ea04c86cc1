"""Runs that are killed, interrupted, damaged and starved of disk, compared with an undisturbed run.

    python -m benchmarks.soak kills --count=100
    python -m benchmarks.soak signals --count=30
    python -m benchmarks.soak workers --count=10
    python -m benchmarks.soak mutations --count=300
    python -m benchmarks.soak disk --count=30        # mounts a tmpfs, as root
    python -m benchmarks.soak memory --minutes=60
    python -m benchmarks.soak saving                 # what a step waits for a checkpoint; idle, it is a timing

prints a line of JSON and exits with 1 where a promise was broken. `benchmarks/soak_runs.py` starts and compares the runs.
"""

import contextlib
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.soak_runs import (
    FLAGS,
    SAVE_EVERY,
    Child,
    Workers,
    differences,
    finish,
    moment,
    newest,
    saved_steps,
    struck,
    wait,
)
from flags.train import main as train_main
from simclr_tf.training import callbacks, checkpoints
from simclr_tf.training.metrics import read_rows


def kills(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """SIGKILLs at random moments, every third one while a checkpoint is written, each followed by `resume`."""

    def in_save(number: int) -> bool:
        return number % 3 == 2

    def moment_of(child: Child, number: int) -> int | None:
        if not in_save(number):
            return moment(child, number, rng)
        code = wait(child, lambda: child.saving)
        return wait(child, seconds=rng.uniform(0, 0.2)) if code is None else code

    def strike(child: Child, number: int) -> None:
        child.kill(signal.SIGKILL)
        wait(child)

    def start(folder: Path, number: int) -> Child:
        return Child(folder, slow_disk=in_save(number))

    lost, runs, different = struck(count, work, start, moment_of, strike)
    saving = [steps for number, steps in enumerate(lost) if in_save(number)]
    others = [steps for number, steps in enumerate(lost) if not in_save(number)]
    return {
        "SIGKILLs": count, "of them while saving": len(saving), "runs": runs, "runs that differ": different,
        "most steps lost": max(others), "while saving on a slow disk": max(saving, default=0),
        # A thread writes, so a kill within a save costs the steps that were made beside it, too. The next save waits.
        "ok": not different and max(lost) < 2 * SAVE_EVERY,
    }  # fmt: skip


def signals(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """SIGTERMs at random moments, each followed by `resume`."""
    codes: Counter[int | None] = Counter()
    seconds: list[float] = []

    def strike(child: Child, number: int) -> None:
        start = time.monotonic()
        child.kill(signal.SIGTERM)
        codes[wait(child)] += 1
        seconds.append(time.monotonic() - start)

    def start(folder: Path, number: int) -> Child:
        return Child(folder)

    lost, runs, different = struck(count, work, start, lambda child, number: moment(child, number, rng), strike)
    ok = not different and not max(lost) and set(codes) == {143} and max(seconds) <= 10
    return {
        "SIGTERMs": count, "exit codes": dict(codes), "runs": runs, "runs that differ": different,
        "most steps lost": max(lost), "most seconds to the end": round(max(seconds), 2), "ok": ok,
    }  # fmt: skip


def workers(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """SIGKILLs of one of two, three or changing numbers of workers at random moments, all started again.

    Two and three must end bit for bit like an undisturbed run of as many. Rounding depends on the number of workers, and
    training amplifies it, so with changing numbers only the last epoch's loss is compared, with that of two workers.
    """
    exits: Counter[str] = Counter()
    found = {}
    for turn, numbers in enumerate(((2,), (3,), (2, 3, 1))):
        name, share = " then ".join(map(str, numbers)), count * (turn + 1) // 3 - count * turn // 3
        found[name] = _lost_workers(numbers, share, rng, work / name.replace(" ", "-"), exits)
    ok = not any(outcome["differ"] for outcome in found.values())
    return {"SIGKILLs": count, "exit codes of the others": dict(exits), "workers": found, "ok": ok}


def _lost_workers(
    numbers: tuple[int, ...], count: int, rng: random.Random, work: Path, exits: Counter[str]
) -> dict[str, Any]:
    """The trial with one or changing numbers of workers; adds to `exits` how those ended that were not killed."""
    flags = [flag for flag in FLAGS if not flag.startswith(("--batch_size", "--epochs"))]
    flags += ["--batch_size=36", "--epochs=4", "--strategy=multiworker", "--communication=ring"]
    begun: list[int] = []  # saved steps at each start
    losses: list[float] = []
    changing = len(numbers) > 1

    def start(folder: Path, number: int) -> Workers:
        begun.append(saved_steps(folder))
        return Workers(folder, numbers[number % len(numbers)], flags)

    def moment_of(running: Workers, number: int) -> int | None:
        if number % 3 == 0 and not changing:
            return wait(running, seconds=rng.uniform(0, 10))
        step = begun[-1] + rng.randint(1, 3 * SAVE_EVERY)
        return wait(running, lambda: running.steps >= step)

    def strike(running: Workers, number: int) -> None:
        training = "training" if running.steps else "before their first step"
        exits.update(f"{training}: {code}" for code in running.lose(rng.randrange(len(running.children))))

    def compare(run: Path, reference: Path) -> list[str]:
        if not changing:
            return differences(run, reference)
        ours, theirs = (read_rows(folder / "metrics.csv")[-1]["loss"] or 0.0 for folder in (run, reference))
        losses.append(abs(ours / theirs - 1))
        return ["loss"] * (losses[-1] > 0.02)

    lost, runs, different = struck(count, work, start, moment_of, strike, compare)
    found = {"runs": runs, "continued from": begun[2:], "most steps lost": max(lost, default=0), "differ": different}
    return {**found, "loss, relative": max(losses)} if changing else found


def mutations(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """The newest checkpoint truncated, or a byte or a block of it changed, in turn over all of its regions."""
    finish(Child(work / "run"))
    folder = work / "run" / "checkpoints"
    good = newest(work / "run")
    whole, outcomes = good.path.read_bytes(), Counter()
    for number in range(count):
        at = (number * len(whole)) // count + rng.randrange(max(1, len(whole) // count))
        changed = bytearray(whole)
        if number % 3 == 0:
            del changed[at:]
        elif number % 3 == 1:
            changed[at] ^= 1 << rng.randrange(8)
        else:
            changed[at : at + 512] = bytes(len(changed[at : at + 512]))
        good.path.write_bytes(changed)
        try:
            found = checkpoints.newest(folder)
        except ValueError:  # all are damaged
            found = None
        if found is None:
            outcomes["no checkpoint"] += 1
        elif found.path != good.path:
            outcomes["fell back to the one before"] += 1
        elif found.meta == good.meta and not any(
            not np.array_equal(found.variables[name], array) for name, array in good.variables.items()
        ):
            outcomes["changed nothing that is read"] += 1
        else:
            outcomes["wrong"] += 1
    good.path.write_bytes(whole)
    return {"mutations": count, **outcomes, "ok": not outcomes["wrong"] and not outcomes["no checkpoint"]}


def disk(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """A file system that is full at a random offset within a save."""
    finish(Child(work / "run"))
    good = newest(work / "run")
    size, mount = good.path.stat().st_size, work / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={8 * size}", "tmpfs", str(mount)], check=True)
    outcomes: Counter = Counter()
    try:
        for number in range(count):
            folder = mount / "checkpoints"
            shutil.rmtree(folder, ignore_errors=True)
            checkpoints.save(folder, checkpoints.Position(1), good.variables, {"step": 1})
            free = shutil.disk_usage(mount).free
            (mount / "filler").write_bytes(bytes(free - rng.randrange(size // 2)))
            try:
                checkpoints.save(folder, checkpoints.Position(2), good.variables, {"step": number})
                outcomes["it fitted"] += 1
            except OSError as error:
                outcomes[f"{error.strerror}, named" if error.filename else "unnamed"] += 1
            (mount / "filler").unlink()
            found = checkpoints.newest(folder)
            whole = found and all(np.array_equal(found.variables[name], a) for name, a in good.variables.items())
            outcomes["the previous one loads"] += bool(whole and found.epoch == 1)
            outcomes["litter"] += len(list(folder.iterdir())) - 1
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    ok = outcomes["the previous one loads"] == count and not outcomes["litter"] and not outcomes["unnamed"]
    return {"full disks": count, **outcomes, "ok": ok}


def memory(minutes: int, work: Path) -> dict[str, Any]:
    """Resident memory, open files and threads over a long training that saves often."""
    flags = [flag for flag in FLAGS if not flag.startswith("--epochs")]
    child = Child(work / "run", flags=[*flags, "--epochs=100000", "--monitor_every=5"])
    samples: list[tuple[float, int, int, int]] = []
    start = time.monotonic()
    while time.monotonic() - start < 60 * minutes:
        if wait(child, seconds=10) is not None:
            raise RuntimeError(child.log.read_text()[-2000:])
        proc = Path("/proc", str(child.pid))
        kib = next(int(line.split()[1]) for line in (proc / "status").read_text().splitlines() if "VmRSS" in line)
        counts = (len(list((proc / name).iterdir())) for name in ("fd", "task"))
        samples.append((time.monotonic() - start, kib, *counts))
    steps = child.steps
    child.kill(signal.SIGTERM)
    code = wait(child)
    at = next(index for index, sample in enumerate(samples) if sample[0] >= min(180, 30 * minutes))
    # Windows of two minutes: memory rises and falls by some percent within an epoch, and a checkpoint that is being
    # written has its file open.
    ends = [at + 12, *(len(samples) * quarter // 4 for quarter in (1, 2, 3, 4))]
    windows = [samples[max(0, end - 12) : end] for end in ends]
    early, late = (
        [min(sample[field] for sample in window) for field in (2, 3)] for window in (windows[0], windows[-1])
    )
    first, *quarters = (round(statistics.median(sample[1] for sample in window) / 1024, 1) for window in windows)
    growth = quarters[-1] / first - 1
    return {
        "minutes": minutes, "steps": steps, "MiB after the third minute": first,
        "by quarter": quarters, "growth, %": round(100 * growth, 2), "open files": [early[0], late[0]],
        "threads": [early[1], late[1]], "exit code": code,
        "ok": growth < 0.02 and early == late,
    }  # fmt: skip


def saving(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """Milliseconds that a step of the CPU recipe waits for a checkpoint, and that a thread then takes to write it."""
    flags = ["--flagfile=recipe:cifar10_cpu", "--dataset=patterns", f"--max_steps={count}", "--save_every=1step"]
    save, write = callbacks.SaveCheckpoints.save, callbacks._write
    times: dict[str, list[float]] = {"waits": [], "writing": []}

    def timed(call: Callable, name: str) -> Callable:
        def timing(*args):
            start = time.perf_counter()
            call(*args)
            times[name].append(1000 * (time.perf_counter() - start))

        return timing

    callbacks.SaveCheckpoints.save, callbacks._write = timed(save, "waits"), timed(write, "writing")
    sys.argv = ["train.py", *flags, f"--run_dir={work / 'run'}"]
    try:
        train_main()
    except SystemExit as done:
        if done.code:
            raise
    size = newest(work / "run").path.stat().st_size
    found = {f"{name}, median ms": round(float(np.median(values)), 1) for name, values in times.items()}
    longest = round(max(times["waits"]), 1)
    return {
        "checkpoints": count,
        "MiB": round(size / 2**20, 1),
        **found,
        "longest wait, ms": longest,
        "ok": longest < 50,
    }


TRIALS = {trial.__name__: trial for trial in (kills, signals, workers, mutations, disk, saving)}


@contextlib.contextmanager
def working() -> Iterator[Path]:
    """A folder for the runs, deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        yield Path(folder)


def main() -> None:
    """Makes one trial."""
    names = (*TRIALS, "memory")
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in names:
        sys.exit(f"Expected one of {', '.join(names)}. Received: {name}")
    args = harness.arguments(__doc__, sys.argv[2:], shows=False, count=30, seed=0, minutes=60)
    start = time.monotonic()
    with working() as work:
        result = (
            memory(args.minutes, work) if name == "memory" else TRIALS[name](args.count, random.Random(args.seed), work)
        )
    print(
        json.dumps(
            {"trial": name, "seed": args.seed, **result, "minutes in all": round((time.monotonic() - start) / 60, 1)}
        )
    )
    sys.exit(not result["ok"])


if __name__ == "__main__":
    main()
