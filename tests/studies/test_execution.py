"""With small processes in place of those of `train.py` and `evaluate.py`."""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from simclr_tf.studies.execution import environments, execute

TRAIN = (
    "import pathlib, sys, time; time.sleep({seconds}); pathlib.Path(sys.argv[1]).mkdir(exist_ok=True); print('trained')"
)
EVALUATE = "import pathlib, sys; pathlib.Path(sys.argv[1], 'record').write_text('x')"
WAIT = """
import pathlib, sys, time
while len(list(pathlib.Path(sys.argv[1]).parent.glob("?"))) < 2: time.sleep(0.1)
pathlib.Path(sys.argv[1]).mkdir()
"""  # until two others of names of one letter are at work
ONE = environments(1)


@dataclass(frozen=True)
class Fake:
    folder: Path
    train: str = TRAIN.format(seconds=0)
    before: str = "to do"
    judged_as = "record"

    @property
    def log(self):
        return self.folder.with_suffix(".log")

    def usage(self):
        path = self.folder / "study.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def state(self):
        return "done" if (self.folder / "record").exists() else self.before


def commands(trial):
    return {
        "train": [sys.executable, "-c", trial.train, str(trial.folder)],
        "evaluate": [sys.executable, "-c", EVALUATE, str(trial.folder)],
    }


def errors_of(trials, places=ONE):
    """Runs trials; the errors of those that fail, by name."""
    found = {}
    execute(trials, commands, places, lambda trial, error: found.update({trial.folder.name: str(error or "")}))
    return {name: error for name, error in found.items() if error}


def test_a_failure_stops_no_other(tmp_path):
    trials = [Fake(tmp_path / "a"), Fake(tmp_path / "b", "raise SystemExit('too hot')"), Fake(tmp_path / "c")]
    assert errors_of(trials) == {"b": "too hot (exit code 1)"}
    assert [trial.state() for trial in trials] == ["done", "to do", "done"]
    assert "too hot" in trials[1].log.read_text()
    usage = trials[0].usage()
    assert usage["whole"] and usage["train_mib"] > 1 and usage["train_seconds"] < 30


def test_a_failed_run_is_not_trained_again_for_each_of_its_judgments(tmp_path):
    train = "import sys; print('x', file=open(sys.argv[1] + '.tries', 'a')); raise SystemExit('too hot')"
    seen = []
    execute([Fake(tmp_path / "a", train)] * 3, commands, ONE, lambda trial, error: seen.append(str(error)))
    assert seen == ["too hot (exit code 1)"] * 3 and (tmp_path / "a.tries").read_text() == "x\n"


def test_a_failure_without_a_word(tmp_path):
    assert errors_of([Fake(tmp_path / "a", "raise SystemExit(3)")]) == {"a": "it printed nothing (exit code 3)"}


def test_a_command_that_cannot_be_started_is_a_failure(tmp_path):
    missing = {"train": ["/nonexistent/program"], "evaluate": []}
    seen = []
    execute([Fake(tmp_path / "a")], lambda trial: missing, ONE, lambda trial, error: seen.append(str(error)))
    assert len(seen) == 1 and "/nonexistent/program" in seen[0]


def test_what_is_done_is_not_run_again(tmp_path):
    trials = [Fake(tmp_path / "a"), Fake(tmp_path / "b")]
    assert errors_of(trials[:1]) == {}
    before = trials[0].log.read_text()
    assert errors_of(trials) == {}
    assert trials[0].log.read_text() == before == "trained\n" and trials[1].state() == "done"


def test_a_trained_encoder_is_only_judged(tmp_path):
    (tmp_path / "a").mkdir()
    trial = Fake(tmp_path / "a", "raise SystemExit(1)", before="trained")
    assert errors_of([trial]) == {} and trial.state() == "done"


def test_jobs_run_side_by_side(tmp_path):
    """Each waits until all have begun, and fails if that takes a minute."""
    meet = """
import pathlib, sys, time
folder, end = pathlib.Path(sys.argv[1]), time.monotonic() + 60
folder.mkdir()
while not all((folder.parent / name).exists() for name in "abcd"):
    assert time.monotonic() < end
    time.sleep(0.02)
"""
    trials = [Fake(tmp_path / name, meet) for name in "abcd"]
    assert errors_of(trials, environments(4)) == {}


@pytest.mark.parametrize(("jobs", "gpus"), [(0, []), (3, ["0", "1"])])
def test_impossible_jobs(jobs, gpus):
    with pytest.raises(ValueError, match=f"`jobs`.*Received: {jobs}"):
        environments(jobs, gpus)


def test_each_job_gets_its_device(tmp_path, monkeypatch):
    tell = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    trials = [Fake(tmp_path / name, f"import time; time.sleep(0.5); {tell}") for name in "ab"]
    assert errors_of(trials, environments(2, ["5", "7"])) == {}
    assert {trial.log.read_text() for trial in trials} == {"5\n", "7\n"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    shared, _ = environments(2)
    assert shared["OMP_NUM_THREADS"] == "3" and int(shared["TF_NUM_INTRAOP_THREADS"]) >= 1
    assert environments(1) == [dict(os.environ)]


def test_the_next_trial_runs_while_the_last_is_reported(tmp_path):
    trials, found = [Fake(tmp_path / "a"), Fake(tmp_path / "b")], []

    def report(trial, error):
        until = time.monotonic() + 10
        while trial is trials[0] and not trials[1].folder.exists() and time.monotonic() < until:
            time.sleep(0.05)
        found.append(trials[1].folder.exists())

    execute(trials, commands, ONE, report)
    assert found == [True, True]


def test_what_ends_the_study_ends_its_processes(tmp_path):
    def stop(trial, error):
        raise KeyboardInterrupt

    tell = f"import os, pathlib; pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid())); "
    slow, later = Fake(tmp_path / "slow", tell + TRAIN.format(seconds=60)), Fake(tmp_path / "later")
    quick = Fake(tmp_path / "quick", TRAIN.format(seconds=1))
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        execute([slow, quick, later], commands, environments(2), stop)
    assert time.perf_counter() - begin < 30
    assert slow.state() == later.state() == "to do"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_all_processes_are_asked_to_end_at_once(tmp_path):
    # Each ends when the other was asked as well, or else after a minute.
    train = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def end(*_):
    with (folder / "asked").open("a") as file: print("once", file=file)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if all((folder.parent / name / "asked").exists() for name in "ab"):
            (folder / "together").touch()
            break
        time.sleep(0.02)
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
folder.mkdir()
time.sleep(60)
"""
    slow = [Fake(tmp_path / name, train) for name in ("a", "b")]
    quick = Fake(tmp_path / "quick", WAIT)

    def stop(trial, error):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute([*slow, quick], commands, environments(3), stop)
    assert [(trial.folder / "asked").read_text() for trial in slow] == ["once\n", "once\n"]
    assert all((trial.folder / "together").exists() for trial in slow)


def test_a_process_does_not_get_the_terminals_signals_as_well(tmp_path):
    train = TRAIN.format(seconds=0) + "; import os; print(os.getsid(0) == os.getpid())"
    assert errors_of([Fake(tmp_path / "a", train)]) == {}
    assert Fake(tmp_path / "a").log.read_text() == "trained\nTrue\n"


def test_judging_again_keeps_what_training_took(tmp_path):
    assert errors_of([Fake(tmp_path / "a")]) == {}
    before = Fake(tmp_path / "a").usage()
    (tmp_path / "a" / "record").unlink()
    assert errors_of([Fake(tmp_path / "a", before="trained")]) == {}
    after = Fake(tmp_path / "a").usage()
    assert after["whole"] and after["train_seconds"] == before["train_seconds"]


def test_a_resumed_run_says_that_its_times_are_those_of_a_part(tmp_path):
    assert errors_of([Fake(tmp_path / "a", before="begun")]) == {}
    assert Fake(tmp_path / "a").usage()["whole"] is False


def test_trials_of_one_run_follow_each_other_and_a_common_record_is_made_once(tmp_path):
    """Two processes in one folder would refuse each other."""
    append = "import pathlib, sys; print('x', file=pathlib.Path(sys.argv[1], 'trained').open('a'))"
    train = f"{TRAIN.format(seconds=0.3)}; {append}"
    trials = [Fake(tmp_path / "a", train), Fake(tmp_path / "a", train), Fake(tmp_path / "b", train)]
    assert errors_of(trials, environments(2)) == {}
    assert (tmp_path / "a" / "trained").read_text() == "x\n" and (tmp_path / "b" / "record").exists()
