"""Runs the trials of a study, several at once if wanted, as the processes that a user would start by hand."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from simclr_tf.files import write_json
from simclr_tf.studies.study import Trial

Commands = Callable[[Trial], Mapping[str, Sequence[str]]]  # `train` and `evaluate`, each of which can be repeated
Environment = Mapping[str, str]
Report = Callable[[Trial, OSError | None], None]  # called after each trial, with its error if it failed


def environments(jobs: int, gpus: Sequence[str] = ()) -> list[Environment]:
    """Variables for each of several processes at once, so that they share the machine; the user's own ones go first.

    Raises:
        ValueError: If there is no job, or there are `gpus`, but not one for each job.
    """
    if jobs < 1 or (gpus and jobs > len(gpus)):
        raise ValueError(f"`jobs` must be 1 or more, and no more than `gpus`. Received: {jobs}")
    if gpus:
        return [{**os.environ, "CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:jobs]]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    return [{**(shared if jobs > 1 else {}), **os.environ}] * jobs


def execute(trials: Sequence[Trial], commands: Commands, places: Sequence[Environment], report: Report) -> None:
    """Runs what is not done, as many runs at once as there are `places`, made by `environments`.

    Trials that share a run follow each other. A failing trial stops no other; an exception, such as Ctrl-C, ends the
    processes.
    """
    groups: dict[Path, list[Trial]] = {}
    for trial in trials:
        if trial.state() != "done":
            groups.setdefault(trial.folder, []).append(trial)
    waiting = iter(groups.values())
    ended: list[tuple[Trial, OSError | None]] = []
    running: list[subprocess.Popen] = []

    def work(place: Environment) -> Generator[None, None, None]:
        for group in waiting:
            for number, trial in enumerate(group):
                try:
                    if trial.state() != "done":  # another one may have had the same record
                        yield from _run(trial, commands(trial), place, running)
                    ended.append((trial, None))
                except OSError as error:
                    if trial.state() in ("begun", "to do"):  # the others judge the same run, which did not come about
                        ended.extend((each, error) for each in group[number:])
                        break
                    ended.append((trial, error))

    workers = [work(place) for place in places]
    try:
        while workers or ended:
            workers = [worker for worker in workers if next(worker, "ended") is None]
            while ended:  # reported only now, so that the next process runs meanwhile
                report(*ended.pop(0))
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.close()


def _run(
    trial: Trial, commands: Mapping[str, Sequence[str]], place: Environment, running: list[subprocess.Popen]
) -> Generator[None, None, None]:
    """Trains and judges one trial, and records time and memory; yields while it waits, its process among `running`."""
    usage, state = trial.usage(), trial.state()
    if state != "trained":
        usage["whole"] = state == "to do"  # else the times are those of a part
    trial.log.parent.mkdir(parents=True, exist_ok=True)
    for step in ("train", "evaluate")[state == "trained" :]:
        begin = time.perf_counter()
        with trial.log.open("ab") as log:
            # In a session of its own, so that the terminal's Ctrl-C arrives once, as the SIGTERM below.
            process = subprocess.Popen(
                commands[step], stdout=log, stderr=subprocess.STDOUT, env=place, start_new_session=True
            )
        running.append(process)
        try:
            # Unlike `process.poll`, it reports the memory of the process.
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                yield
        except BaseException:
            for each in running:  # all at once, since each takes a step and a checkpoint to end
                each.terminate()
            running.clear()
            process.wait()
            raise
        running.remove(process)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            lines = [line for line in trial.log.read_text(errors="replace").split("\n") if line.strip()]
            raise ChildProcessError(f"{(lines or ['it printed nothing'])[-1]} (exit code {process.returncode})")
        # A run may be judged in several ways, each a trial with a record of its own.
        spent = usage if step == "train" else usage.setdefault(trial.judged_as, {})
        spent[f"{step}_seconds"] = round(time.perf_counter() - begin, 1)
        spent[f"{step}_mib"] = round(ended[2].ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
        write_json(trial.folder / "study.json", usage)  # after each: the next one may be interrupted
