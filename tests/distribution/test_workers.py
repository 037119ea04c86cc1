"""Several processes on the loopback interface train like one; and what happens when one of them dies."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_tf.training.metrics import read_rows

WORKER = Path(__file__).with_name("worker.py")
EPOCHS, IMAGES, BATCH = 3, 48, 12
NOTICED_WITHIN = 30  # seconds from a worker's death until all have exited
FLAGS = (
    "--dataset=folder", "--image_size=16", "--encoder=tests.tiny:encoder", "--augmentations=crop,flip",
    f"--batch_size={BATCH}", f"--epochs={EPOCHS}", "--warmup_epochs=1", "--learning_rate=0.1", "--checkpoint_epochs=1",
    "--validation_fraction=0.25",
)  # fmt: skip


@pytest.fixture(scope="module")
def train(tmp_path_factory, run_python):
    """Runs some number of workers; returns the finished launcher and the folders of the run and the weights."""
    images = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(images / f"{number:02}.png")

    def run(name, workers, *flags, **environment):
        folder = tmp_path_factory.getbasetemp() / name
        weights = folder.with_suffix(".weights")
        weights.mkdir(exist_ok=True)
        command = [WORKER, *FLAGS, f"--data_dir={images}", f"--run_dir={folder}", *flags]
        if workers > 1:
            command = ["-m", "flags.launch", f"--workers={workers}", "--", *command]
        return run_python(*command, WEIGHTS=str(weights), CUDA_VISIBLE_DEVICES="-1", **environment), folder, weights

    return run


@pytest.fixture(scope="module")
def alone(train):
    """The run of a single process."""
    done, folder, weights = train("alone", 1)
    assert done.returncode == 0, done.stderr
    return folder, dict(np.load(weights / "0.npz"))


def assert_trained_alike(alone, folder, weights, workers):
    """Checks that weights, metrics and files of a run of several workers are those of one process."""
    expected_folder, expected = alone
    found = [dict(np.load(weights / f"{index}.npz")) for index in range(workers)]
    assert expected.keys() == found[0].keys()
    for key, value in expected.items():
        assert all(np.array_equal(found[0][key], other[key]) for other in found[1:]), key
        scale = max(np.abs(value).max(), 1e-6)
        np.testing.assert_allclose(found[0][key] / scale, value / scale, atol=1e-3, err_msg=key)
    for row, expected_row in zip(
        read_rows(folder / "metrics.csv"), read_rows(expected_folder / "metrics.csv"), strict=True
    ):
        for column in set(row) - {"images_per_second"}:
            assert row[column] == pytest.approx(expected_row[column], rel=1e-3), column
    tensorboard = re.compile(r"events\.out")
    names, expected_names = (
        {path.name for path in each.rglob("*") if not tensorboard.match(path.name)}
        for each in (folder, expected_folder)
    )
    assert names == expected_names


@pytest.mark.parametrize(
    "workers, flags",
    [(2, ["--strategy=multiworker", "--communication=ring"]), pytest.param(3, [], marks=pytest.mark.slow)],
)
def test_a_lost_worker_ends_all_and_the_restarted_train_like_one_process(train, alone, workers, flags):
    steps = IMAGES * 3 // 4 // BATCH
    done, folder, weights = train(f"of {workers}", workers, *flags, KILL=f"1:{steps + 1}")
    ended = time.time()
    assert done.returncode == 128 + 9, done.stderr
    assert f"{workers} replicas on CPU of {workers} workers" in done.stdout
    assert len(re.findall(r"epoch +1/", done.stdout)) == 1  # only the chief reports
    assert len(re.findall(r"error: Lost .*worker 1.*--resume", done.stderr)) == workers - 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not any(weights.iterdir())
    assert ended - weights.with_suffix(".killed").stat().st_mtime < NOTICED_WITHIN
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["epoch-00001.npz"]

    done, folder, weights = train(f"of {workers}", workers, *flags, "--resume")
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^(\[worker 1\] )?E0000|WARNING:tensorflow|rror", done.stderr, re.MULTILINE), done.stderr
    assert_trained_alike(alone, folder, weights, workers)
