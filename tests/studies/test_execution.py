"""With small processes in place of `train.py` and `evaluate.py`."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from simclr_tf.studies.execution import Failure, environments, execute, timed

TRAIN = (
    "import pathlib, sys, time; time.sleep({seconds}); pathlib.Path(sys.argv[1]).mkdir(exist_ok=True); print('trained')"
)
ONE = environments(1)
EVALUATE = "import pathlib, sys; pathlib.Path(sys.argv[1], 'record').write_text('x')"


@dataclass(frozen=True)
class Fake:
    folder: Path
    train: str = TRAIN.format(seconds=0)
    trained: bool = False

    @property
    def log(self):
        return self.folder.with_suffix(".log")

    def usage(self):
        path = self.folder / "study.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def state(self):
        return "done" if (self.folder / "record").exists() else "to do"

    def commands(self):
        return {
            "train": [sys.executable, "-c", self.train, str(self.folder)],
            "evaluate": [sys.executable, "-c", EVALUATE, str(self.folder)],
        }


class Again(Fake):
    """Trained already, to be judged in another mode."""

    def state(self):
        return "begun"


def test_a_failure_stops_no_other(tmp_path):
    runs = [Fake(tmp_path / "a"), Fake(tmp_path / "b", "raise SystemExit('too hot')"), Fake(tmp_path / "c")]
    seen = []
    assert execute(runs, ONE, report=lambda run, error: seen.append((run.folder.name, str(error)))) == [runs[1]]
    assert [run.state() for run in runs] == ["done", "to do", "done"]
    assert [error for name, error in seen if name == "b"] == [f"too hot (exit code 1; {runs[1].log})"]
    usage = json.loads((tmp_path / "a" / "study.json").read_text())
    assert usage["whole"] and usage["train_mib"] > 1 and usage["train_seconds"] < 30


def test_what_is_done_is_not_run_again(tmp_path):
    runs = [Fake(tmp_path / "a"), Fake(tmp_path / "b")]
    execute(runs[:1], ONE)
    before = runs[0].log.read_text()
    execute(runs, ONE)
    assert runs[0].log.read_text() == before == "trained\n" and runs[1].state() == "done"


def test_a_trained_encoder_is_only_judged(tmp_path):
    (tmp_path / "a").mkdir()
    run = Fake(tmp_path / "a", "raise SystemExit(1)", trained=True)
    assert execute([run], ONE) == [] and run.state() == "done"


def test_jobs_run_side_by_side(tmp_path):
    slow = TRAIN.format(seconds=1.5)
    runs = [Fake(tmp_path / name, slow) for name in "abcd"]
    begin = time.perf_counter()
    assert execute(runs, environments(4)) == []
    assert time.perf_counter() - begin < 4 * 1.5


@pytest.mark.parametrize(("jobs", "gpus"), [(0, []), (3, ["0", "1"])])
def test_impossible_jobs(jobs, gpus):
    with pytest.raises(ValueError, match=f"--jobs.*Received: {jobs}"):
        environments(jobs, gpus)


def test_each_job_gets_its_device(tmp_path, monkeypatch):
    tell = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    runs = [Fake(tmp_path / name, f"import time; time.sleep(0.5); {tell}") for name in "ab"]
    assert execute(runs, environments(2, ["5", "7"])) == []
    assert {run.log.read_text() for run in runs} == {"5\n", "7\n"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    shared, _ = environments(2)
    assert shared["OMP_NUM_THREADS"] == "3" and int(shared["TF_NUM_INTRAOP_THREADS"]) >= 1
    assert environments(1) == [dict(os.environ)]


def test_a_run_that_another_process_is_at_is_left_alone(tmp_path):
    """Also where the study that started it was killed: its process holds the lock with its output."""
    log = tmp_path / "a.log"
    holder = (
        "import fcntl, subprocess, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); "
        "p = subprocess.Popen([sys.executable, '-c', 'input()'], stdout=f, stdin=subprocess.PIPE); "
        "print('up', flush=True); input(); p.communicate(b'\\n')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, log], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(Failure, match="another process"):
            timed([sys.executable, "-c", ""], log, dict(os.environ), set())
        process.communicate(b"\n")
    timed([sys.executable, "-c", ""], log, dict(os.environ), set())


def test_what_ends_the_study_ends_its_processes(tmp_path):
    def stop(run, error):
        raise KeyboardInterrupt

    slow = Fake(tmp_path / "slow", TRAIN.format(seconds=60))
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        execute([Fake(tmp_path / "quick"), slow, Fake(tmp_path / "later")], environments(2), stop)
    assert time.perf_counter() - begin < 30
    assert slow.state() == "to do"


def test_judging_again_keeps_what_training_took(tmp_path):
    execute([Fake(tmp_path / "a")], ONE)
    before = Fake(tmp_path / "a").usage()
    (tmp_path / "a" / "record").unlink()
    execute([Again(tmp_path / "a", trained=True)], ONE)
    after = Fake(tmp_path / "a").usage()
    assert after["whole"] and after["train_seconds"] == before["train_seconds"]
