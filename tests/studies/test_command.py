"""The command line of a study: every refusal is one line, before TensorFlow is imported."""

import ast
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from absl import flags as absl_flags

from flags import RECIPES, config_from_flags, define, given, pretraining_groups
from flags import study as command
from simclr_tf import files
from simclr_tf.studies import STUDIES, results
from simclr_tf.studies.study import Judgment, Trial, plan
from tests.conftest import ROOT


@pytest.fixture
def refused(run_python, without_tensorflow, tmp_path):
    """Runs a study that is to be refused and returns what it says."""

    def run(*words):
        result = run_python("-m", "flags.study", *words, f"--runs_dir={tmp_path}", PYTHONPATH=str(without_tensorflow))
        assert result.returncode == 1 and result.stdout == "" and not list(tmp_path.iterdir())
        (line,) = result.stderr.splitlines()
        assert line.startswith("study.py: error: ")
        return line

    return run


def test_two_processes_do_not_run_a_study_in_one_folder(run_python, without_tensorflow, tmp_path):
    """The second is refused and changes nothing."""
    assert files.claim(tmp_path / "loss")
    study = ["-m", "flags.study", "loss", "--dataset=patterns", f"--runs_dir={tmp_path}"]
    result = run_python(*study, PYTHONPATH=str(without_tensorflow))
    assert result.returncode == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("study.py: error: Another process is running this study in this --runs_dir")
    assert f"Received: {tmp_path} " in line
    assert [path.name for path in (tmp_path / "loss").iterdir()] == [files.LOCK]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Expected a study, one of augmentation_pairs"),
        (["tempreature"], "Received: tempreature"),
        (["temperature", "head"], "Received: head"),
        (["loss", "--batch_sise=3"], "Did you mean: batch_size"),
        (["loss", "--batch_size=x"], "--batch_size=x"),
        (["loss", "--epochs"], "epochs"),
        (["loss", "--blur=maybe"], "blur"),
        (["head", "--temperature=0"], "--temperature must be greater than 0"),
        (["loss", "--flagfile=recipe:nonsense"], "takes one of"),
        (["loss", "--seeds=0"], "--seeds must be at least 1. Received: 0"),
        (["loss", "--jobs=0"], "--jobs must be 1 or more"),
        (["loss", "--jobs=3", "--gpus=0,1"], "no more than --gpus. Received: 3"),
        (["loss", "--mode=export"], "knn|linear"),
        (["loss", "--only=yes,hot"], "--only takes labels of"),
        (["loss", "--run_dir=x"], "--runs_dir. Received: --run_dir=x"),
        (["loss", "--resume"], "--runs_dir. Received: --resume=True"),
        (["loss", "--nooverwrite"], "--runs_dir. Received: --overwrite=False"),
    ],
)
def test_wrong_flags_are_one_line_before_tensorflow(refused, words, complaint):
    assert complaint in refused(*words)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["temperature", "--temperature=3"], "temperature", "3.0"),
        (["--temperature", "3", "temperature"], "temperature", "3.0"),
        (["temperature", "-nonormalize"], "normalize", "False"),
        (["depth_width", "--flagfile=recipe:demo", "--encoder=resnet18"], "encoder", "resnet18"),
        (["head", "--projection_dim=64"], "projection_dim", "64"),
    ],
)
def test_what_the_study_varies_is_refused(refused, words, name, value):
    assert f"--{name} is what this study sets: leave it out. Received: --{name}={value}" in refused(*words)


PLAN = """
import flags.study as command
command.estimate.forecast = lambda trials, *_: print(*({**trial.settings} for trial in trials), sep="\\n") or 0
command.main()
"""


@pytest.fixture
def planned(run_python, without_tensorflow):
    """The settings of a study's runs."""

    def plan(*words):
        result = run_python("-c", PLAN, *words, "--dry_run", PYTHONPATH=f"{ROOT}:{without_tensorflow}")
        assert result.returncode == 0, result.stderr
        return [ast.literal_eval(line) for line in result.stdout.splitlines()]

    return plan


def test_multiples_build_on_the_flag(planned):
    settings = planned("batch_epochs", "--batch_size=64", "--epochs=8", "--only=16,128,2,8")
    assert [(each["batch_size"], each["epochs"]) for each in settings] == [(16, 2), (16, 8), (128, 2), (128, 8)]
    assert planned("depth_width", "--width=0.25", "--only=SimCLR,resnet18,0.5") == [
        {"width": 0.5, "encoder": "resnet18", "seed": 0}
    ]


def test_a_recipe_may_have_what_the_study_varies(planned):
    """Recipes are for all studies; every recipe names an encoder."""
    (settings,) = planned("depth_width", "--flagfile=recipe:demo", "--only=SimCLR,resnet34,0.5", "--seed=3", "--noblur")
    assert settings == {
        "dataset": "patterns", "encoder": "resnet34", "width": 0.5, "batch_size": 128, "epochs": 4,
        "crop_area": 0.25, "temperature": 0.1, "learning_rate": 4.0,
        "warmup_epochs": 1.0, "checkpoint_epochs": 1, "blur": False, "seed": 3,
    }  # fmt: skip


def read(*words):
    """The flags of train.py that these words give, and the configuration that it makes of them."""
    values = absl_flags.FlagValues()
    for group in pretraining_groups().values():
        define(group, values)
    absl_flags.DEFINE_string("flagfile", None, "", flag_values=values)
    values(["train.py", *words])
    settings = given([name for group in pretraining_groups().values() for name in group], values)
    return settings, config_from_flags(values)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--batch_size=64", "--temperature", "0.1", "--blur", "--nonormalize"],
        ["--blur=true", "--blur=false", "--projection_width=32", "--projection_bn=0"],
        ["-epochs=20", "--augmentations=crop,flip", "--dataset=folder", "--data_dir=a b", "--image_size=32"],
        ["--epochs=20", f"--flagfile={RECIPES / 'demo.cfg'}", "--seed=3"],
        *([f"--flagfile={path}", "--data_dir=photos"] for path in sorted(RECIPES.glob("[cf]*.cfg"))),
    ],
)
def test_a_run_has_the_settings_that_train_py_would_read(words, tmp_path):
    settings, config = read(*words)
    trial = Trial(("a",), settings, tmp_path / "a", Judgment("linear"))
    again, resumed = read(*command._commands(trial)["train"][3:])
    assert again == settings | {"run_dir": str(trial.folder), "resume": True}
    assert resumed.replace("output", run_dir=None, resume=False) == config


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.cfg")), ids=lambda path: path.stem)
def test_every_recipe_serves_all_studies(path, tmp_path):
    settings, _ = read(f"--flagfile={path}", *(["--data_dir=photos"] if path.stem[0] in "cf" else []))
    for study in STUDIES.values():
        assert plan(study, settings, tmp_path)


def test_commands_of_a_trial(tmp_path):
    trial = Trial(
        ("no", "100"), {"normalize": False, "temperature": 100, "seed": 6}, tmp_path / "no_100-seed6", Judgment("knn")
    )
    train, evaluate = command._commands(trial).values()
    assert train[1:] == ["-m", "flags.train", "--normalize=false", "--temperature=100", "--seed=6",
                         f"--run_dir={trial.folder}", "--resume"]  # fmt: skip
    assert evaluate[1:] == ["-m", "flags.evaluate", f"--run_dir={trial.folder}", "--mode=knn"]


def test_help_lists_studies_and_flags(run_python, without_tensorflow):
    result = run_python("-m", "flags.study", "--help", PYTHONPATH=str(without_tensorflow))
    assert result.returncode == 0
    for word in (*STUDIES, "--seeds", "--jobs", "--gpus", "--only", "--mode", "--runs_dir", "--report_dir",
                 "--[no]dry_run", "--batch_size", "simclr-study"):  # fmt: skip
        assert word in result.stdout


SLEEPS = """
import sys
import flags.study as command
sleep = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
command._commands = lambda trial: {"train": [sys.executable, "-c", sleep, str(trial.log.with_suffix(".pid"))]}
command.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_the_processes(number, tmp_path):
    words = [sys.executable, "-c", SLEEPS, "loss", "--jobs=2", f"--runs_dir={tmp_path}"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as study:
        until = time.monotonic() + 60
        while len(pids := [path.read_text() for path in (tmp_path / "loss").glob("*.pid")]) < 2 or "" in pids:
            assert time.monotonic() < until
            time.sleep(0.05)
        study.send_signal(number)
        assert study.wait(30) == (130 if number == signal.SIGINT else 143)
        assert "interrupted: the same command goes on" in study.stderr.read()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_study_whose_runs_all_fail(tmp_path, run_python):
    result = run_python(
        "-c", SLEEPS.replace("time.sleep(60)", "sys.exit('too hot')"), "temperature", "--only=yes,0.1",
        f"--runs_dir={tmp_path}",
    )  # fmt: skip
    log = tmp_path / "temperature" / "yes_0.1-seed0.log"
    assert result.returncode == 1 and log.read_text() == "too hot\n"
    assert f"[0/1] yes, 0.1, seed 0: failed: too hot (exit code 1); {log}" in result.stdout
    assert "No run of the study is done" in result.stderr and len(result.stderr.splitlines()) == 1


def test_finished_cells_that_are_not_named_stay_in_the_report(tmp_path, finish, capsys):
    study = STUDIES["temperature"]
    whole = partial(plan, study, {"epochs": 20}, tmp_path, seeds=10)
    of_both_seeds = [trial for trial in whole() if trial.labels == ("yes", "0.5") and trial.settings["seed"] < 2]
    more = [trial for trial in whole() if trial.labels == ("yes", "0.1") and trial.settings["seed"] == 2]
    for trial in [*of_both_seeds, *more]:  # a further seed of the named cell is not of this report
        finish(trial)
    named = plan(study, {"epochs": 20}, tmp_path, only=["yes", "0.1"])
    assert command._with_finished(named, whole) == [*named, *of_both_seeds]
    assert command._with_finished(named, list) == named
    # Those of other settings are not of the same report.
    other = partial(plan, study, {"epochs": 30}, tmp_path, seeds=10)
    assert command._with_finished(named, other) == named
    assert "the report is of the cells named by --only alone" in capsys.readouterr().out


def test_what_has_diverged_is_not_run_again(tmp_path, monkeypatch, capsys):
    trials = plan(STUDIES["temperature"], {}, tmp_path)[:3] + plan(STUDIES["label_fraction"], {}, tmp_path)[:2]
    for folder in (trials[1].folder, trials[4].record.parent):  # of a pretraining, and of a training on labels
        folder.mkdir(parents=True)
        (folder / "divergence.json").touch()
    ran = []
    monkeypatch.setattr(command.execution, "execute", lambda trials, *_: ran.extend(trials))
    monkeypatch.setattr(results, "write", lambda study, trials, text, stem, _: stem.with_suffix(".md").write_text(""))
    monkeypatch.setattr(command, "words", ["temperature"])
    assert command._run(STUDIES["temperature"], lambda: trials, list, [], tmp_path / "temperature") == 5
    assert ran == [trials[0], trials[2], trials[3]]
    out = capsys.readouterr().out
    for folder in (trials[1].folder, trials[4].folder / "evaluation" / "supervised-0.01-seed0"):
        assert f"it has diverged, and is not run again unless you delete {folder}" in out
