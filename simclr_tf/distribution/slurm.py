"""The workers of a SLURM step, from the variables that `srun` sets for each of its tasks.

TensorFlow's SlurmClusterResolver is not used: it fails without a GPU, always takes port 8888, where two jobs on a node
meet, and orders nodes by the text of their names, so that node10 would come before node9.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping

FIRST_PORT, PORTS, GROUPS = 10_000, 16, 1250  # groups of ports, all below 32768, from where Linux gives out its own

NEEDED = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
_RANGE = r"\d+(-\d+)?"
_HOST = rf"([^,\[\]\s]|\[{_RANGE}(,{_RANGE})*\])+"
_COUNT = r"\d+(\(x\d+\))?"


def tf_config(environment: Mapping[str, str]) -> str | None:
    """The TF_CONFIG of a task of a SLURM step; worker 0 is task 0.

    Args:
        environment: Environment variables of the task.

    Returns:
        JSON whose `environment` is "slurm", or None outside SLURM and for a single task.

    Raises:
        ValueError: If variables are missing, as without `srun`, or contradict each other.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    if tasks == "1":
        return None
    if missing := [name for name in NEEDED if not environment.get(name)]:
        # A batch script has SLURM_NTASKS as well, but is a single process, which would wait for the others forever.
        raise _error(environment, f"{', '.join(missing)} not set; start the command with srun")
    job, process, nodes, counts = (environment[name] for name in NEEDED)
    step, node = environment.get("SLURM_STEP_ID", "0"), environment.get("SLURM_NODEID")
    if not all(number.isdecimal() for number in (tasks, job, process, step)):
        raise _error(environment, "tasks, job, process and step are numbers")
    names, each = expand_nodes(nodes), expand_counts(counts)
    if not names or len(names) != len(each) or sum(each) != int(tasks) or int(process) >= int(tasks):
        raise _error(environment, "its nodes, its tasks on each node and the number of its tasks do not fit together")
    places = [place for place, count in enumerate(each) for _ in range(count)]
    if node and node != str(places[int(process)]):
        raise _error(environment, "its tasks do not follow the order of its nodes; use srun --distribution=block")
    # Jobs have numbers in a row, so those that run at the same time differ in their ports; so do steps of a job.
    port = FIRST_PORT + PORTS * ((int(job) + 97 * int(step)) % GROUPS)
    hosts = [names[place] for place in places]
    workers = [f"{host}:{port + hosts[:index].count(host)}" for index, host in enumerate(hosts)]
    task = {"type": "worker", "index": int(process)}
    return json.dumps({"cluster": {"worker": workers}, "task": task, "environment": "slurm"})


def notes(environment: Mapping[str, str]) -> list[str]:
    """One sentence about the workers, if `tf_config` made the TF_CONFIG in these variables."""
    config = json.loads(environment["TF_CONFIG"])
    if config.get("environment") != "slurm":
        return []
    workers, (job, _, nodes, _) = config["cluster"]["worker"], (environment.get(name) for name in NEEDED)
    port = workers[0].rpartition(":")[2]
    return [f"the workers are the {len(workers)} tasks of SLURM's job {job} on {nodes}, from port {port}"]


def expand_nodes(text: str) -> list[str]:
    """The names in a node list: `n[08-10,12],login` stands for n08, n09, n10, n12 and login; [] if it is malformed."""
    if not re.fullmatch(rf"{_HOST}(,{_HOST})*", text):
        return []
    names: list[str] = []
    for host in re.finditer(_HOST, text):
        parts = [_numbers(part) if part[0] == "[" else [part] for part in re.findall(r"\[.*?\]|[^\[]+", host.group())]
        names += map("".join, itertools.product(*parts))
    return names


def expand_counts(text: str) -> list[int]:
    """The tasks on each node: `2(x3),1` stands for 2, 2, 2 and 1; [] if it is malformed."""
    if not re.fullmatch(rf"{_COUNT}(,{_COUNT})*", text):
        return []
    return [int(count) for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text) for _ in range(int(times or 1))]


def _numbers(text: str) -> Iterator[str]:
    """The numbers in `[08-10,12]`, as wide as they are written."""
    for part in text.strip("[]").split(","):
        first, _, last = part.partition("-")
        yield from (str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1))


def _error(environment: Mapping[str, str], reason: str) -> ValueError:
    names = ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID", "SLURM_NODEID", *NEEDED)
    received = " ".join(f"{name}={environment[name]}" for name in names if name in environment)
    return ValueError(
        "With `strategy=multiworker` in SLURM, and without TF_CONFIG, the workers are the tasks of a step: "
        f"{reason}. Received: {received}"
    )
