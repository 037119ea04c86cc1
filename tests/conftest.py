"""What tests share: quiet TensorFlow, the real images where there are any, and processes of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import simclr_tf.quiet  # noqa: F401, I001
from simclr_tf._compat import HAS_XLA
from simclr_tf.files import alone_in

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real images, which SIMCLR_TEST_DATA names; tests that need it are skipped without it."""
    folder = os.environ.get("SIMCLR_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SIMCLR_TEST_DATA to a folder with cifar-10-batches-bin")
    return Path(folder)


@pytest.fixture(scope="session")
def run_python():
    """Runs a Python command line in a process of its own, from the project's root, and returns the finished process."""

    def run(*arguments: object, timeout: float = 900, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def without_tensorflow(tmp_path_factory) -> Path:
    """A folder to put on PYTHONPATH, with which importing TensorFlow fails."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')\n")
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, run_python) -> Path:
    """A copy of a run of one step on the patterns, which is made once for all of xdist's workers."""
    root = tmp_path_factory.getbasetemp()
    made = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "tiny"
    with alone_in(made.parent):
        if not made.exists():
            _train_tiny(made, run_python)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("runs") / "tiny"))


def _train_tiny(folder: Path, run_python) -> None:
    flags = ["--dataset=patterns", "--encoder=tests.tiny:encoder", "--batch_size=64", "--epochs=1", "--max_steps=1",
             "--warmup_epochs=0", "--augmentations=crop,flip"]  # fmt: skip
    result = run_python("train.py", *flags, f"--run_dir={folder}")
    assert result.returncode == 0, result.stderr


# The files that take longest, which are begun first, so that both of xdist's workers end at about the same time.
LONG = (
    "distribution/test_workers.py", "distribution/test_replicas.py", "tasks/test_pretrain.py", "evaluation/test_files.py",
    "networks/test_encoders.py", "training/test_engine.py", "test_install.py", "evaluation/test_export.py",
    "augment/test_two_views.py", "studies/test_results.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Puts them first."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skips what needs XLA on the host's CPU where TensorFlow is the build for TPUs, which has none."""
    try:
        return (yield)
    except Exception as error:
        if not HAS_XLA and re.search("transfer manager for platform Host|Compiler IR can only", str(error)):
            pytest.skip("this TensorFlow has no XLA for the CPU")
        raise
