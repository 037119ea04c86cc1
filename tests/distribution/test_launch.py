"""The launcher: what workers receive, and how signals and exit codes travel."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simclr_tf import launch

ROOT = Path(__file__).resolve().parents[2]


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(
        "import json, os, signal, sys, time\nindex = json.loads(os.environ['TF_CONFIG'])['task']['index']\n" + text
    )
    return path


def test_every_worker_gets_its_place_on_free_ports():
    ports = launch.free_ports(3)
    assert len(set(ports)) == 3
    configs = [json.loads(launch.tf_config(ports, index)) for index in range(3)]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(3)]
    assert configs[0]["cluster"] == configs[2]["cluster"]
    assert configs[0]["cluster"]["worker"] == [f"127.0.0.1:{port}" for port in ports]


def test_output_arguments_and_success(tmp_path, run_python):
    path = script(tmp_path, "print('index', index, *sys.argv[1:])")
    done = run_python("-m", "flags.launch", "--workers=2", "--", path, "--flag=1")
    assert done.returncode == 0
    assert done.stdout == "index 0 --flag=1\n"
    assert done.stderr == "[worker 1] index 1 --flag=1\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sys.exit([0, 3, 2][index])", 3),
        ("os.kill(os.getpid(), 9) if index == 1 else sys.exit(1)", 137),
        # The one that hangs is stopped, which does not count as a failure of its own.
        ("sys.exit(4) if index == 1 else time.sleep(60)", 4),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.exit(5) if index == 1 else time.sleep(60)", 5),
    ],
)
def test_worst_exit_code_and_the_others_are_ended(tmp_path, run_python, text, code):
    start = time.monotonic()
    done = run_python("-m", "flags.launch", "--workers=3", "--grace=1", "--", script(tmp_path, text))
    assert done.returncode == code
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_passed_on(tmp_path, number):
    caught = "signal.signal({0}, lambda *_: sys.exit(7 + index))\nopen(f'{1}/{{index}}', 'w').close()\ntime.sleep(60)"
    path = script(tmp_path, caught.format(int(number), tmp_path))
    command = [sys.executable, "-m", "flags.launch", "--workers=2", "--", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(20) == 8


def test_a_command_that_is_installed_is_run_itself(tmp_path, run_python):
    command = tmp_path / "simclr-tiny"
    command.write_text('#!/bin/sh\necho "$TF_CONFIG" "$@"\n')
    command.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run_python("-m", "flags.launch", "--workers=2", "--", "simclr-tiny", "--flag=1", "two words", PATH=path)
    assert done.returncode == 0, done.stderr
    for line, start, index in ((done.stdout, "", 0), (done.stderr, "[worker 1] ", 1)):
        text, arguments = line.removeprefix(start).removesuffix(" --flag=1 two words\n"), line.endswith("two words\n")
        assert arguments and json.loads(text)["task"] == {"type": "worker", "index": index}


@pytest.mark.parametrize("arguments", [("--workers=0", "--", "train.py"), ("--workers=2",), ("--", "train.py")])
def test_usage_errors_are_one_line(run_python, arguments):
    done = run_python("-m", "flags.launch", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and "error: " in done.stderr and "Received: --workers=" in done.stderr


@pytest.mark.parametrize(("there", "given"), [("0,1,2", ["0", "1"]), ("3", ["-1", "-1"]), ("-1", ["-1", "-1"])])
def test_the_gpus_of_the_machine_are_dealt_out(tmp_path, monkeypatch, there, given):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, pathlib\nplace = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        f"pathlib.Path({str(tmp_path)!r}, str(place)).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", there)
    assert launch.wait(launch.start([str(script)], 2)) == 0
    assert [(tmp_path / str(index)).read_text() for index in range(2)] == given


def test_a_command_of_an_environment_that_is_not_active_is_found(monkeypatch):
    monkeypatch.setenv("PATH", "")
    name = Path(sys.executable).name  # whatever lies beside this Python
    assert launch.program([name, "x"]) == [str(Path(sys.executable).parent / name), "x"]


def test_a_worker_that_cannot_be_started_ends_the_others(tmp_path, monkeypatch):
    started, popen = [], subprocess.Popen

    def scarce(*args, **kwargs):
        if started:
            raise BlockingIOError("Resource temporarily unavailable")
        started.append(popen(*args, **kwargs))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", scarce)
    with pytest.raises(BlockingIOError):
        launch.start([str(script(tmp_path, "time.sleep(60)"))], 2)
    assert started[0].wait(timeout=10) == -signal.SIGKILL
