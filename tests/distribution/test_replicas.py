"""The number of devices does not change the result: 1 x 8, 2 x 4 and 4 x 2 images, through fit, with everything on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from simclr_tf.config.pretraining import LOSS_NAMES, PROJECTION_NAMES

SCRIPT = Path(__file__).with_name("twelve_steps.py")
CASES = [
    "resnet18", "head linear", "head none", "loss decoupled", "loss margin_triplet", "loss nt_logistic",
    "loss nt_xent", "semi-hard", "learned similarity",
]  # fmt: skip
FOUR = ["learned similarity"]  # a graph of four replicas takes long to trace
# By step, relative to the largest element; training amplifies rounding. The means that fit reports are float32. An error of
# principle, such as batch statistics of one replica only, is 1e-2 and more.
TOLERANCE = {1: 1e-12, 3: 1e-12, 12: 1e-10}
TOLERANCE_LOGS = 5e-7


@pytest.fixture(scope="module")
def states(tmp_path_factory, run_python):
    """Number of replicas -> everything that was recorded."""
    folder = tmp_path_factory.mktemp("replicas")
    with ThreadPoolExecutor(2) as pool:
        cases = {4: FOUR, 2: CASES, 1: CASES}
        runs = list(
            pool.map(lambda replicas: run_python(SCRIPT, replicas, folder / f"{replicas}.npz", *cases[replicas]), cases)
        )
    assert not any(done.returncode for done in runs), [done.stderr[-2000:] for done in runs]
    return {replicas: dict(np.load(folder / f"{replicas}.npz")) for replicas in (1, 2, 4)}


def test_the_strategies_have_that_many_replicas(states):
    assert [int(states[count]["states/replicas"]) for count in (1, 2, 4)] == [1, 2, 4]
    assert "states/resnet18/3/logs/val_loss" in states[1]


def test_every_case_is_there(states):
    names, of_four = ({key.split("/")[1] for key in states[count]} - {"replicas"} for count in (1, 4))
    assert names == set(CASES) and of_four == set(FOUR)
    assert {f"loss {loss}" for loss in LOSS_NAMES} <= names
    assert {f"head {head}" for head in PROJECTION_NAMES} <= names | {"head nonlinear"}


@pytest.mark.parametrize("step", TOLERANCE)
@pytest.mark.parametrize("case, replicas", [*((case, 2) for case in CASES), *((case, 4) for case in FOUR)])
def test_same_as_one_replica(states, case, replicas, step):
    """Losses, validation losses, gradients, variables, moving statistics and optimizer slots."""
    expected = {k: v for k, v in states[1].items() if k.startswith(f"states/{case}/{step}/")}
    kinds = ("gradient", "momentum", "moving_variance", "kernel", "logs/loss")
    assert all(any(kind in key for key in expected) for kind in kinds)
    for key, value in expected.items():
        scale = max(np.abs(value).max(), 1e-9)
        tolerance = TOLERANCE_LOGS if "/logs/" in key else TOLERANCE[step]
        np.testing.assert_allclose(states[replicas][key] / scale, value / scale, atol=tolerance, rtol=0, err_msg=key)


@pytest.mark.slow
def test_a_resnet_on_four_replicas(states, run_python, tmp_path):
    done = run_python(SCRIPT, 4, tmp_path / "4.npz", "resnet18")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "4.npz") as four:
        test_same_as_one_replica({1: states[1], 4: dict(four)}, "resnet18", 4, 12)


@pytest.mark.parametrize("case", CASES)
def test_training_moved_everything(states, case):
    """The comparison would also hold for a model that learns nothing."""
    for key in (k for k in states[1] if k.startswith(f"states/{case}/1/") and "kernel" in k and "gradient" not in k):
        later = key.replace("/1/", "/3/", 1)
        assert not np.array_equal(states[1][key], states[1][later]), key
