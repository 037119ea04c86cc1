"""SLURM: a cluster from the variables of a step, and the batch script with stand-ins for `srun` and `scontrol`."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from simclr_tf import distribution
from simclr_tf.config import Hardware
from simclr_tf.distribution import slurm
from simclr_tf.training.checkpoints import newest
from tests.conftest import ROOT
from tests.distribution.test_strategies import WORKER

SCRIPT = ROOT / "docs" / "slurm.sh"
JOB = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "node[9-10],login", "SLURM_STEP_TASKS_PER_NODE": "1(x2),2",
}  # fmt: skip
NODES = ("0", "1", "2", "2")  # of each task


def step(process, **changes):
    """The variables of a task, with changes; those that change to None are not set."""
    found = {**JOB, "SLURM_PROCID": str(process), "SLURM_NODEID": NODES[process], **changes}
    return {name: value for name, value in found.items() if value is not None}


def workers(environment):
    return json.loads(slurm.tf_config(environment))["cluster"]["worker"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n1,n2-ib", ["n1", "n2-ib"]),
        ("node[01-03,7]", ["node01", "node02", "node03", "node7"]),
        ("a[9-11],b.c", ["a9", "a10", "a11", "b.c"]),
        ("rack[0-1]n[08-09]-x", ["rack0n08-x", "rack0n09-x", "rack1n08-x", "rack1n09-x"]),
        ("", []), ("n[1-2", []), ("n]", []), ("n[]", []), ("n[a-b]", []), (",n1", []), ("n1,,n2", []), ("n 1", []),
    ],
)  # fmt: skip
def test_node_lists(text, names):
    assert slurm.expand_nodes(text) == names


@pytest.mark.parametrize(
    ("text", "counts"),
    [("2", [2]), ("2(x3),1", [2, 2, 2, 1]), ("1,4(x2)", [1, 4, 4]), ("", []), ("2(3)", []), ("x", []), ("2,", [])],
)
def test_tasks_per_node(text, counts):
    assert slurm.expand_counts(text) == counts


def test_every_task_is_the_worker_of_its_number_on_its_node():
    configs = [json.loads(slurm.tf_config(step(process))) for process in range(4)]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(4)]
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)
    hosts, ports = zip(*(worker.split(":") for worker in configs[0]["cluster"]["worker"]), strict=True)
    assert hosts == ("node9", "node10", "login", "login")
    assert ports[0] == ports[1] == ports[2] and int(ports[3]) == int(ports[2]) + 1
    assert 1024 < int(min(ports)) and int(max(ports)) < 32768


def test_jobs_and_steps_on_the_same_nodes_have_ports_of_their_own():
    jobs = [step(0, SLURM_JOB_ID=str(4711 + more)) for more in range(1000)]
    steps = [step(0, SLURM_STEP_ID=str(number)) for number in range(1000)]
    for environments in (jobs, steps):
        used = [worker for environment in environments for worker in workers(environment)]
        assert len(set(used)) == len(used)


@pytest.mark.parametrize("environment", [{}, step(0, SLURM_STEP_NUM_TASKS="1"), {"SLURM_NTASKS": "1"}])
def test_outside_slurm_and_for_a_single_task_there_is_nothing_to_say(environment):
    assert slurm.tf_config(environment) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({name: None}, f"{name} not set; start the command with srun") for name in slurm.NEEDED],
        # A batch script without srun: the variables of the job, and none of a step.
        ({name: None for name in JOB if "STEP" in name}, "SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE not set"),
        ({"SLURM_JOB_ID": "4711_3"}, "are numbers"),
        ({"SLURM_PROCID": "-1"}, "are numbers"),
        ({"SLURM_PROCID": "4"}, "do not fit together"),
        ({"SLURM_STEP_NUM_TASKS": "5"}, "do not fit together"),
        ({"SLURM_STEP_NODELIST": "node[9-10]"}, "do not fit together"),
        ({"SLURM_STEP_NODELIST": "node[9-"}, "do not fit together"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, "do not fit together"),
        ({"SLURM_NODEID": "1"}, "--distribution=block"),
    ],
)  # fmt: skip
def test_what_is_missing_or_contradictory_is_one_line(monkeypatch, changes, message):
    for name, value in step(0, **changes).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=rf"{message}.*Received: SLURM_NTASKS=4") as caught:
        distribution.make_strategy(Hardware(strategy="multiworker"))
    assert "\n" not in str(caught.value)


def test_tf_config_wins(monkeypatch):
    for name, value in step(0, SLURM_STEP_NODELIST="contradictory").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TF_CONFIG", "mine")
    with pytest.raises(ValueError, match="Received: 'mine'"):
        distribution.make_strategy(Hardware(strategy="multiworker"))


# As SLURM does: the variables, one process a task, and the highest exit code. While INTERRUPT is a file, it is removed
# and the tasks get SIGUSR1 once the run has a checkpoint.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_NODEID=$task SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 \\
        SLURM_STEP_NODELIST=localhost,localhost SLURM_STEP_TASKS_PER_NODE='1(x2)' "$@" &
    tasks+=($!)
done
if [ -e "$INTERRUPT" ]; then
    while kill -0 "${tasks[0]}" && ! compgen -G "$RUN_DIR/checkpoints/*.npz"; do sleep 0.05; done &> /dev/null
    rm "$INTERRUPT"
    kill -USR1 "${tasks[@]}"
fi
highest=0
for task in "${tasks[@]}"; do
    wait "$task"
    code=$?
    highest=$((code > highest ? code : highest))
done
exit $highest
"""
FLAGS = (
    "--dataset=patterns", "--train_fraction=0.01", "--validation_fraction=0", "--augmentations=flip",
    "--encoder=tests.tiny:encoder", "--batch_size=16", "--epochs=8", "--warmup_epochs=1", "--learning_rate=0.1",
    "--checkpoint_epochs=1",
)  # fmt: skip


@pytest.fixture
def submit(tmp_path):
    """Runs the batch script as SLURM would, with this `srun`; returns the process and the calls of `scontrol`.

    In place of `python train.py`, another script of Python can be run.
    """
    bin, calls = tmp_path / "bin", tmp_path / "calls"
    bin.mkdir()

    def run(srun, *flags, script=None, **environment):
        commands = {
            "srun": srun,
            "scontrol": f'#!/bin/sh\necho "$@" >> {calls}\n',
            "python": f"#!/bin/sh\nexec {sys.executable} " + (str(script) if script else '"$@"') + "\n",
        }
        for name, text in commands.items():
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)
        own = {
            "PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1",
            "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1", "RUN_DIR": str(tmp_path / "run"),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", SCRIPT, *flags], cwd=ROOT, env={**os.environ, **own, **environment}, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        return done, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.mark.parametrize(("code", "calls"), [(0, []), (1, []), (3, []), (137, []), (143, ["requeue 4711"])])
def test_the_script_comes_back_only_after_the_signal(submit, code, calls):
    done, found = submit(f"#!/bin/sh\nexit {code}\n")
    assert (done.returncode, found) == (code, calls)


def test_the_script_asks_for_what_it_relies_on():
    lines = SCRIPT.read_text().splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert {"--nodes=2", "--ntasks-per-node=1", "--signal=USR1@120", "--requeue"} <= set(options)
    assert all(" " not in option for option in options)
    # sbatch reads no further than the first command.
    before = list(itertools.takewhile(lambda line: not line or line.startswith("#"), lines))
    assert len(options) == sum(line.startswith("#SBATCH") for line in before)


@pytest.fixture(scope="module")
def launched(tmp_path_factory, run_python):
    """What two workers of the launcher end with."""
    folder = tmp_path_factory.mktemp("launched") / "run"
    command = ["train.py", "--strategy=multiworker", f"--run_dir={folder}", *FLAGS]
    done = run_python("-m", "flags.launch", "--workers=2", "--", *command, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr
    return newest(folder / "checkpoints")


def assert_trained_alike(found, expected):
    assert found.position == expected.position
    assert found.variables.keys() == expected.variables.keys()
    for name, value in expected.variables.items():
        np.testing.assert_allclose(found.variables[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_tasks_of_a_job_are_the_workers_of_one_strategy(submit, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    done, calls = submit(SRUN, script=script, INTERRUPT=str(tmp_path / "never"))
    assert (done.returncode, calls) == (0, []), done.stderr
    assert done.stdout.count("MultiWorkerMirroredStrategy, 2 replicas on CPU of 2 workers") == 2
    assert "the workers are the 2 tasks of SLURM's job 4711 on localhost,localhost, from port" in done.stdout
    assert "only worker" not in done.stdout


@pytest.mark.slow
def test_an_interrupted_and_requeued_job_trains_like_the_launcher(submit, launched, tmp_path):
    interrupt, checkpoints = tmp_path / "interrupt", tmp_path / "run" / "checkpoints"
    interrupt.touch()
    done, calls = submit(SRUN, *FLAGS, INTERRUPT=str(interrupt))
    assert (done.returncode, calls) == (143, ["requeue 4711"]), done.stderr
    assert "SIGUSR1: finishing the step, then saving" in done.stderr
    assert newest(checkpoints).position < launched.position
    done, calls = submit(SRUN, *FLAGS, INTERRUPT=str(interrupt))
    assert (done.returncode, calls) == (0, ["requeue 4711"]), done.stderr
    assert_trained_alike(newest(checkpoints), launched)
