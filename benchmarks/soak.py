"""Runs that are killed, interrupted, damaged and starved of disk, held against the run that nothing befell.

    python -m benchmarks.soak kills --count=100
    python -m benchmarks.soak signals --count=30
    python -m benchmarks.soak workers --count=10
    python -m benchmarks.soak mutations --count=300
    python -m benchmarks.soak disk --count=30        # mounts a tmpfs, as root
    python -m benchmarks.soak memory --minutes=60
    python -m benchmarks.soak saving                 # what a step waits for a checkpoint; idle, it is a timing

prints a line of JSON and exits with 1 where a promise was broken. A training is a fork of this process, which has
imported everything and computed nothing: it starts in seconds, and is killed like any other. Its steps are counted in
memory that it shares with this process.
"""

import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import simclr_tf.quiet  # noqa: F401

# isort: split
import numpy as np

from benchmarks import harness
from flags.train import main as train_main
from simclr_tf.tasks import pretrain  # noqa: F401  imported before the fork
from simclr_tf.training import callbacks, checkpoints
from simclr_tf.training.metrics import read_rows

SAVE_EVERY = 5  # steps
# 14 steps an epoch, 140 in all; deterministic, so that a run that was resumed must end in the same bits.
FLAGS = [
    "--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=32", "--train_fraction=0.1",
    "--epochs=10", "--warmup_epochs=1", "--checkpoint_epochs=1", f"--save_every={SAVE_EVERY}steps", "--deterministic",
    "--resume",
]  # fmt: skip
SLOW = 0.002  # seconds that each write of a checkpoint waits on the slow disk


class Child:
    """A training in a fork of this process."""

    def __init__(self, folder: Path, slow_disk: bool = False, flags: list[str] = FLAGS):
        self._shared = mmap.mmap(-1, 16)
        self.log = folder.with_suffix(".log")
        self.pid = os.fork()
        if not self.pid:
            self._train(folder, slow_disk, flags)

    def _train(self, folder: Path, slow_disk: bool, flags: list[str]) -> None:
        code = 70
        try:
            log = os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)
            self._count_steps()
            if slow_disk:
                self._slow_down()
            sys.argv = ["train.py", *flags, f"--run_dir={folder}"]
            train_main()
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _count_steps(self) -> None:
        counted = callbacks.SaveCheckpoints.on_train_batch_end

        def count(callback, batch, logs=None):
            counted(callback, batch, logs)
            self._shared[:8] = struct.pack("q", callback.position.epoch * callback._steps + callback.position.step)

        callbacks.SaveCheckpoints.on_train_batch_end = count

    def _slow_down(self) -> None:
        replacing, shared = checkpoints.replacing, self._shared

        class Slowly:
            def __init__(self, file):
                self._file = file

            def __getattr__(self, name):
                return getattr(self._file, name)

            def write(self, content):
                time.sleep(SLOW)
                return self._file.write(content)

        @contextlib.contextmanager
        def slowly(path):
            with replacing(path) as file:
                shared[8:] = struct.pack("q", 1)
                yield Slowly(file)
            shared[8:] = struct.pack("q", 0)

        checkpoints.replacing = slowly

    @property
    def steps(self) -> int:
        """Steps done, 0 before the first of this process."""
        return struct.unpack("q", self._shared[:8])[0]

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written, on the slow disk."""
        return bool(struct.unpack("q", self._shared[8:])[0])

    def wait(self, until: Callable[[], bool] = lambda: False, seconds: float = 600) -> int | None:
        """The exit code as a shell has it, or None if something else comes first."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            time.sleep(0.002)
        return None

    def kill(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)


def finish(folder: Path) -> None:
    """Trains to the end; RuntimeError with the log if that fails."""
    child = Child(folder)
    if code := child.wait():
        raise RuntimeError(f"exit code {code}: {child.log.read_text()[-2000:]}")


def differences(run: Path, reference: Path) -> list[str]:
    """What differs in the end: weights, optimizer, statistics, metrics.csv, and TensorBoard's tags and steps."""
    ours, theirs = newest(run), newest(reference)
    found = [name for name in theirs.variables if not np.array_equal(ours.variables.get(name), theirs.variables[name])]
    rows, expected = (
        [{name: value for name, value in row.items() if name != "images_per_second"} for row in read_rows(folder)]
        for folder in (run / "metrics.csv", reference / "metrics.csv")
    )
    return found + ["metrics.csv"] * (rows != expected) + ["tensorboard"] * (events(run) != events(reference))


def events(run: Path) -> Counter:
    """How often TensorBoard has each tag at each step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Counter = Counter()
    for path in (run / "tensorboard").glob("events*"):
        accumulator = EventAccumulator(str(path), size_guidance={"tensors": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            if tag != "images_per_second":  # which an epoch does not have that was resumed for its last step
                found.update((tag, event.step) for event in accumulator.Tensors(tag))
    return found


def newest(folder: Path) -> checkpoints.Checkpoint:
    """The newest checkpoint of a run that has one."""
    found = checkpoints.newest(folder / "checkpoints")
    if found is None:
        raise RuntimeError(f"{folder} has no checkpoint")
    return found


def saved_steps(folder: Path) -> int:
    """The step of the newest whole checkpoint."""
    found = checkpoints.newest(folder / "checkpoints")
    return found.meta["step"] if found else 0


def moment(child: Child, number: int, rng: random.Random) -> int | None:
    """Waits for a random moment: one of the first ten seconds, or, every other time, of the four after the first step."""
    if number % 2:
        code = child.wait(lambda: child.steps > 0)
        return child.wait(seconds=rng.uniform(0, 4)) if code is None else code
    return child.wait(seconds=rng.uniform(0, 10))


def struck(
    count: int, work: Path, moment_of: Callable[[Child, int], int | None], strike: Callable[[Child, int], None],
    slow_disk: Callable[[int], bool] = lambda number: False,
) -> tuple[list[int], int, list[str]]:  # fmt: skip
    """Trainings that are struck at so many moments, each time continued, and again and again to the end.

    Args:
        count: Number of strikes.
        work: Folder of the runs.
        moment_of: Waits for the moment of a strike; the exit code where the training ends before it.
        strike: Ends a training, of a number counted from 0.
        slow_disk: Whether the disk is slow in that of a number.

    Returns:
        Steps that each strike cost, the number of runs, and what differs from a run that nothing befell.
    """
    reference, lost, runs, different = work / "reference", [], 1, []
    finish(reference)
    folder = work / "run-1"
    while len(lost) < count:
        number = len(lost)
        before, child = saved_steps(folder), Child(folder, slow_disk=slow_disk(number))
        code = moment_of(child, number)
        if code is None:
            strike(child, number)
            lost.append(max(child.steps, before) - saved_steps(folder))
            continue
        if code:
            raise RuntimeError(f"exit code {code}: {child.log.read_text()[-2000:]}")
        different += differences(folder, reference)
        runs += 1
        folder = work / f"run-{runs}"
    finish(folder)
    return lost, runs, different + differences(folder, reference)


def kills(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """SIGKILLs at random moments, every third one while a checkpoint is written, each followed by `resume`."""

    def in_save(number: int) -> bool:
        return number % 3 == 2

    def moment_of(child: Child, number: int) -> int | None:
        if not in_save(number):
            return moment(child, number, rng)
        code = child.wait(lambda: child.saving)
        return child.wait(seconds=rng.uniform(0, 0.2)) if code is None else code

    def strike(child: Child, number: int) -> None:
        child.kill(signal.SIGKILL)
        child.wait()

    lost, runs, different = struck(count, work, moment_of, strike, in_save)
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
        codes[child.wait()] += 1
        seconds.append(time.monotonic() - start)

    lost, runs, different = struck(count, work, lambda child, number: moment(child, number, rng), strike)
    ok = not different and not max(lost) and set(codes) == {143} and max(seconds) <= 10
    return {
        "SIGTERMs": count, "exit codes": dict(codes), "runs": runs, "runs that differ": different,
        "most steps lost": max(lost), "most seconds to the end": round(max(seconds), 2), "ok": ok,
    }  # fmt: skip


def workers(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """Some of two, three or changing numbers of workers killed at random moments, all started again.

    Two and three are held against as many that nothing befell. Rounding depends on the number of workers and grows from
    step to step, so a run of changing numbers is held against the loss of the last epoch only.
    """
    flags = [flag for flag in FLAGS if not flag.startswith(("--deterministic", "--batch_size", "--epochs"))]
    flags += ["--batch_size=36", "--strategy=multiworker", "--communication=ring", "--epochs=4"]
    killed, largest = 0, {}
    for turn, numbers in enumerate(((2,), (3,), (2, 3, 1))):
        folder, starts, wanted = work / f"run-{turn}", 0, -(-(count - killed) // (3 - turn))
        reference = work / f"reference-{numbers[0]}"
        if not reference.exists() and _launch(numbers[0], flags, reference).wait():
            raise RuntimeError(reference.with_suffix(".log").read_text()[-2000:])
        while True:
            launched = _launch(numbers[starts % len(numbers)], flags, folder)
            starts += 1
            if starts <= wanted:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    launched.wait(rng.uniform(12, 30))
                if launched.poll() is None:
                    pids = subprocess.run(["pgrep", "-P", str(launched.pid)], capture_output=True, text=True).stdout
                    os.kill(int(rng.choice(pids.split())), signal.SIGKILL)
                    killed += 1
                    launched.wait()
                    continue
            if launched.wait():
                raise RuntimeError(folder.with_suffix(".log").read_text()[-2000:])
            break
        losses = [read_rows(each / "metrics.csv")[-1]["loss"] or 0.0 for each in (folder, reference)]
        same = {"variables": _distance(folder, reference)} if len(numbers) == 1 else {}
        largest[" then ".join(map(str, numbers))] = {**same, "loss": abs(losses[0] / losses[1] - 1)}
    ok = all(found.get("variables", 0.0) < 1e-6 and found["loss"] < 0.02 for found in largest.values())
    return {"SIGKILLs": killed, "largest relative differences": largest, "ok": ok}


def _launch(number: int, flags: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "flags.launch", f"--workers={number}", "--grace=30", "--", "train.py", *flags]
    with folder.with_suffix(".log").open("a") as log:
        return subprocess.Popen([*command, f"--run_dir={folder}"], stdout=log, stderr=log)


def _distance(run: Path, reference: Path) -> float:
    ours, theirs = newest(run), newest(reference)
    return max(
        float(np.abs(ours.variables[name] - array).max() / max(np.abs(array).max(), 1e-6))
        for name, array in theirs.variables.items()
    )


def mutations(count: int, rng: random.Random, work: Path) -> dict[str, Any]:
    """The newest checkpoint truncated, or a byte or a block of it changed, in turn over all of its regions."""
    finish(work / "run")
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
        found = checkpoints.newest(folder)
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
    finish(work / "run")
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
        if child.wait(seconds=10) is not None:
            raise RuntimeError(child.log.read_text()[-2000:])
        proc = Path("/proc", str(child.pid))
        kib = next(int(line.split()[1]) for line in (proc / "status").read_text().splitlines() if "VmRSS" in line)
        counts = (len(list((proc / name).iterdir())) for name in ("fd", "task"))
        samples.append((time.monotonic() - start, kib, *counts))
    steps = child.steps
    child.kill(signal.SIGTERM)
    code = child.wait()
    third = next(sample for sample in samples if sample[0] >= min(180, 30 * minutes))
    last = samples[-1]
    quarters = [samples[len(samples) * quarter // 4 - 1][1] // 1024 for quarter in (1, 2, 3, 4)]
    growth = last[1] / third[1] - 1
    return {
        "minutes": minutes, "steps": steps, "MiB after the third minute": third[1] // 1024,
        "by quarter": quarters, "growth, %": round(100 * growth, 2), "open files": [third[2], last[2]],
        "threads": [third[3], last[3]], "exit code": code,
        "ok": growth < 0.02 and third[2:] == last[2:],
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
    with contextlib.suppress(SystemExit):
        train_main()
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
    args = harness.arguments(__doc__, sys.argv[2:], count=30, seed=0, minutes=60)
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
