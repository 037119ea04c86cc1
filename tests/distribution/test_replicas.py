"""The number of devices does not change the result: 1 x 8, 2 x 4 and 4 x 2 images, through fit, with everything on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from simclr_tf.config.pretraining import LOSS_NAMES, PROJECTION_NAMES

SCRIPT = Path(__file__).with_name("twelve_steps.py")
# Case -> numbers of replicas; a graph of four takes long to trace. The first has every part that talks to other replicas.
CASES = {"learned similarity": (1, 2), "resnet18": (1, 2, 4)} | dict.fromkeys(
    ["head linear", "head none", "loss decoupled", "loss margin_triplet", "loss nt_logistic", "loss nt_xent", "semi-hard"],
    (1, 2),
)  # fmt: skip
# By step, relative to the largest element; training amplifies rounding. The means that fit reports are float32. An error of
# principle, such as batch statistics of one replica only, is 1e-2 and more.
TOLERANCE = {1: 1e-12, 3: 1e-12, 12: 1e-10}
TOLERANCE_LOGS = 5e-7


@pytest.fixture(
    scope="module",
    params=[case if not index else pytest.param(case, marks=pytest.mark.slow) for index, case in enumerate(CASES)],
)
def states(request, tmp_path_factory, run_python):
    """Number of replicas -> everything that was recorded of a case."""
    folder, counts = tmp_path_factory.mktemp("replicas"), CASES[request.param]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda count: run_python(SCRIPT, count, folder / f"{count}.npz", request.param), counts))
    assert not any(done.returncode for done in runs), [done.stderr[-2000:] for done in runs]
    return {count: dict(np.load(folder / f"{count}.npz")) for count in counts}


def test_the_strategies_have_that_many_replicas(states):
    assert all(int(state["replicas"]) == count for count, state in states.items())


@pytest.mark.parametrize("step", TOLERANCE)
def test_same_as_one_replica(states, step):
    """Losses, validation losses, gradients, variables, moving statistics and optimizer slots."""
    expected = {key: value for key, value in states[1].items() if key.startswith(f"{step}/")}
    kinds = ("gradient", "momentum", "moving_variance", "kernel", "logs/loss", "logs/val_loss")
    assert all(any(kind in key for key in expected) for kind in kinds)
    for count in states.keys() - {1}:
        for key, value in expected.items():
            scale = max(np.abs(value).max(), 1e-9)
            tolerance = TOLERANCE_LOGS if "/logs/" in key else TOLERANCE[step]
            np.testing.assert_allclose(states[count][key] / scale, value / scale, atol=tolerance, rtol=0, err_msg=key)


def test_training_moved_everything(states):
    """The comparison would also hold for a model that learns nothing."""
    for key in (key for key in states[1] if key.startswith("1/") and "kernel" in key and "gradient" not in key):
        assert not np.array_equal(states[1][key], states[1][f"3{key[1:]}"]), key


def test_every_loss_and_head_is_a_case():
    assert {f"loss {loss}" for loss in LOSS_NAMES} <= CASES.keys()
    assert {f"head {head}" for head in PROJECTION_NAMES} <= CASES.keys() | {"head nonlinear"}
