"""The trainings of `benchmarks.soak`: started as forks, struck, continued, and compared in the end.

A fork of this process has imported everything and computed nothing, so it starts in seconds; it is killed like any other
process. It counts its steps in memory that it shares with this one.
"""

import contextlib
import mmap
import os
import random
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import simclr_tf.quiet  # noqa: F401

# isort: split
import numpy as np

from flags.train import main as train_main
from simclr_tf import launch
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
GRACE = 60.0  # seconds in which workers must notice that one of them is gone


class Running(Protocol):
    """A training of one or more processes."""

    log: Path

    @property
    def steps(self) -> int:
        """Steps done, 0 before the first of these processes."""

    def poll(self) -> int | None:
        """The exit code as a shell has it, None while it runs."""


class Child:
    """A training in a fork of this process.

    Args:
        folder: Folder of the run.
        flags: Its flags, without the folder.
        slow_disk: Whether each write of a checkpoint takes its time.
        **environment: Variables of its environment.
    """

    def __init__(self, folder: Path, flags: list[str] = FLAGS, slow_disk: bool = False, **environment: str):
        self._shared = mmap.mmap(-1, 16)
        self.log = folder.with_suffix(".log")
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.environ |= environment
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
        except BaseException:  # the fork ends here, so nobody else would print it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
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

    def poll(self) -> int | None:
        """The exit code as a shell has it, None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code
        return self._code

    def kill(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)


class Workers:
    """A training by several workers, each a fork of this process.

    Args:
        folder: Folder of the run.
        number: How many workers.
        flags: The flags of each, without the folder.
    """

    def __init__(self, folder: Path, number: int, flags: list[str]):
        ports = launch.free_ports(number)
        self.children = [Child(folder, flags, TF_CONFIG=launch.tf_config(ports, index)) for index in range(number)]
        self.log = self.children[0].log

    @property
    def steps(self) -> int:
        """Steps that the chief did, 0 before the first of these processes."""
        return self.children[0].steps

    def poll(self) -> int | None:
        """The highest exit code, None while one of them runs."""
        codes = [child.poll() for child in self.children]
        return None if None in codes else max(code for code in codes if code is not None)

    def lose(self, victim: int) -> list[int | None]:
        """Kills one of them; the exit codes of the others, None for those that had to be killed as well."""
        self.children[victim].kill(signal.SIGKILL)
        wait(self, seconds=GRACE)
        codes = [child.poll() for index, child in enumerate(self.children) if index != victim]
        for child in self.children:
            if child.poll() is None:
                child.kill(signal.SIGKILL)
        wait(self)
        return codes


def wait(running: Running, until: Callable[[], bool] = lambda: False, seconds: float = 600) -> int | None:
    """The exit code of a training, or None if something else comes first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        if (code := running.poll()) is not None:
            return code
        time.sleep(0.002)
    return None


def finish(running: Running) -> None:
    """Waits for the end of a training; RuntimeError with its log if that fails."""
    if code := wait(running):
        raise RuntimeError(f"exit code {code}: {running.log.read_text()[-2000:]}")
    if code is None:
        raise RuntimeError(f"not ended after 600 s: {running.log.read_text()[-2000:]}")


def moment(running: Running, number: int, rng: random.Random) -> int | None:
    """Waits for a random moment: one of the first ten seconds, or, every other time, of the four after the first step."""
    if number % 2:
        code = wait(running, lambda: running.steps > 0)
        return wait(running, seconds=rng.uniform(0, 4)) if code is None else code
    return wait(running, seconds=rng.uniform(0, 10))


def differences(run: Path, reference: Path) -> list[str]:
    """What differs in the end in any bit: weights, optimizer, statistics, metrics.csv, TensorBoard's tags and steps."""
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


R = TypeVar("R", bound=Running)


def struck(
    count: int, work: Path, start: Callable[[Path, int], R], moment_of: Callable[[R, int], int | None],
    strike: Callable[[R, int], None], compare: Callable[[Path, Path], list[str]] = differences,
) -> tuple[list[int], int, list[str]]:  # fmt: skip
    """Strikes trainings `count` times, continues them after each strike, and begins another whenever one is complete.

    Args:
        count: Number of strikes.
        work: Folder of the runs.
        start: Starts or continues a training in a folder, given the number of the strike, counted from 0.
        moment_of: Waits for the moment of a strike; returns the exit code if the training ends before it.
        strike: Ends a training.
        compare: Returns what differs between a run and an undisturbed one.

    Returns:
        Steps that each strike cost, the number of runs, and what differs.
    """
    work.mkdir(exist_ok=True)
    reference, lost, runs, different = work / "reference", [], 1, []
    finish(start(reference, 0))
    folder = work / "run-1"
    while len(lost) < count:
        number = len(lost)
        before, running = saved_steps(folder), start(folder, number)
        code = moment_of(running, number)
        if code is None:
            strike(running, number)
            lost.append(max(running.steps, before) - saved_steps(folder))
            continue
        if code:
            raise RuntimeError(f"exit code {code}: {running.log.read_text()[-2000:]}")
        different += compare(folder, reference)
        runs += 1
        folder = work / f"run-{runs}"
    finish(start(folder, count))
    return lost, runs, different + compare(folder, reference)
