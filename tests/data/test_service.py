"""The tf.data service: what workers in processes of their own decode is what the training would have, in the same order."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf import preflight
from simclr_tf.augment import make_views
from simclr_tf.config import Config
from simclr_tf.data import load, service
from simclr_tf.data.convert import convert
from simclr_tf.data.damaged import Damaged
from simclr_tf.data.pipeline import naming_lost_images, training_batches
from simclr_tf.data.source import Split
from simclr_tf.launch import free_ports
from tests.conftest import ROOT

SIZE, COUNT = 16, 30


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of JPEG files that are larger than the views."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (COUNT, 3, 4, 3), np.uint8)):
        Image.fromarray(pixels).resize((48, 36)).save(folder / f"{number:02}.jpg")
    return folder


@pytest.fixture(scope="module")
def address():
    """The address of a dispatcher with two workers."""
    (port,) = free_ports(1)
    dispatcher = f"localhost:{port}"
    servers = [service.start(port, None, "localhost"), *(service.start(0, dispatcher, "localhost") for _ in range(2))]
    yield dispatcher
    del servers


@pytest.fixture
def address_of_processes():
    """The same, a process each."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "flags.data_service"]
    started = []
    try:
        for words in ([f"--port={port}"], *[[f"--dispatcher=localhost:{port}"]] * 2):
            started.append(subprocess.Popen([*command, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True))
            assert started[-1].stdout.readline().startswith("service  ")
        yield f"localhost:{port}"
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture
def calls(monkeypatch):
    """How often a dataset was given to a service."""
    found = []
    original = service.served
    monkeypatch.setattr(service, "served", lambda *args: found.append(args) or original(*args))
    return found


def both(split, address, count, **settings):
    """The first batches as they are decoded here, and by the service."""
    here, there = (training_batches(split, 6, seed=3, data_service=each, **settings) for each in (None, address))
    assert here.element_spec == there.element_spec and there.cardinality() == tf.data.INFINITE_CARDINALITY
    return [[tf.nest.flatten(batch) for batch in batches.take(count)] for batches in (here, there)]


@pytest.mark.parametrize("cut", [True, False])
def test_the_batches_are_those_that_are_decoded_here(photos, address, calls, cut):
    split = load("folder", photos, SIZE).train
    numbered = Split(split.images, np.arange(COUNT, dtype=np.int32))
    cuts = make_views("simclr", seed=4).cuts() if cut else None
    here, there = both(numbered, address, 12, cuts=cuts, labels=True)  # more than two epochs
    assert len(calls) == 1 and len(here) == len(there) == 12
    for expected, found in zip(here, there, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
    assert sorted(np.concatenate([labels for _, labels in there[:5]])) == list(range(COUNT))


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_of_a_training_that_goes_on_gets_its_share(photos, address, worker):
    split = load("folder", photos, SIZE).train
    context = tf.distribute.InputContext(2, worker, 6)  # three replicas each
    here, there = both(split, address, 9, first_epoch=1, first_step=3, context=context)
    np.testing.assert_array_equal(there, here)


def test_damaged_files_are_replaced_as_they_are_here(photos, address, tmp_path, capsys):
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    split = load("folder", tmp_path, SIZE).train
    (tmp_path / "04.jpg").write_bytes(b"no image any more")
    here, there = (
        [
            batch.numpy()
            for batch in training_batches(split, 6, seed=0, damaged=Damaged(split.images, 1), data_service=each).take(5)
        ]
        for each in (None, address)
    )
    np.testing.assert_array_equal(there, here)
    assert capsys.readouterr().out.count("04.jpg; ") == 2


@pytest.mark.slow
def test_a_run_is_that_without_a_service(photos, address_of_processes, tmp_path, run_python):
    """It is stopped within an epoch, and goes on without the service."""
    flags = ["--dataset=folder", f"--data_dir={photos}", f"--image_size={SIZE}", "--encoder=tests.tiny:encoder",
             "--batch_size=8", "--epochs=2", "--warmup_epochs=1", "--deterministic"]  # fmt: skip
    runs = (
        ("here", []),
        ("there", [f"--data_service={address_of_processes}", "--max_steps=4"]),
        ("there", ["--data_service="]),
    )
    rows = {}
    for name, more in runs:
        done = run_python("train.py", *flags, f"--run_dir={tmp_path / name}", "--resume", *more)
        assert done.returncode == 0 and not done.stderr, done.stderr
        lines = (tmp_path / name / "metrics.csv").read_text().splitlines()
        rows[name] = [line.split(",")[:7] for line in lines]
    assert len(rows["here"]) == 3 and rows["here"] == rows["there"]


def test_records_are_decoded_alike(photos, address, tmp_path):
    convert(photos, tmp_path / "records")
    split = load(f"records:{tmp_path}/records/*", None, SIZE).train
    here, there = both(split, address, 6, cuts=make_views("simclr", seed=4).cuts())
    np.testing.assert_array_equal(there, here)


def test_without_a_worker_a_run_ends(photos, monkeypatch):
    (port,) = free_ports(1)
    dispatcher = service.start(port, None, "localhost")
    monkeypatch.setattr(service, "PATIENCE", 2)
    split = load("folder", photos, SIZE).train
    batches = training_batches(split, 6, seed=3, data_service=f"localhost:{port}")
    with pytest.raises(ValueError, match="A batch did not come .* Received: 0 later ones in 2 seconds"), \
            naming_lost_images():  # fmt: skip
        next(iter(batches))
    with pytest.raises(ValueError, match=f"`port` must be free. Received: {port}"):
        service.start(port, None, "localhost")
    del dispatcher


def numbered(numbers):
    return tf.data.Dataset.from_tensor_slices(np.array(numbers, np.int64)).map(lambda n: (n, tf.fill([4], n)))


def test_batches_are_put_in_order():
    ordered = service.in_order(numbered([12, 10, 13, 11, 14]), lambda: itertools.count(10))
    for _ in range(2):
        assert [int(batch[0]) for batch in ordered.take(5)] == [10, 11, 12, 13, 14]


def test_a_batch_that_does_not_come_ends_the_run(monkeypatch):
    monkeypatch.setattr(service, "WAITING", 100)  # bytes: three batches of 32
    ordered = service.in_order(numbered([0, 2, 3, 4, 5, 6, 7]), itertools.count)
    with pytest.raises(ValueError, match="A batch did not come .* `resume`.* Received: 4 later ones in 0 seconds"), \
            naming_lost_images():  # fmt: skip
        list(ordered)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dataset": "patterns", "data_service": "localhost:1"}, "`dataset=patterns` has none: leave it out"),
     ({"dataset": "records:x", "image_size": 8, "data_service": "localhost:1"}, "must be a running dispatcher.*refused"),
     ({"data_service": "localhost"}, "`data_service` must be like host:5050. Received: localhost")],
)  # fmt: skip
def test_what_cannot_serve_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        preflight.check(Config.of(**settings))


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "Expected --port, to be the dispatcher, or --dispatcher"),
     (["--dispatcher=localhost"], "--dispatcher must be a running dispatcher like host:5050")],
)  # fmt: skip
def test_the_command_says_what_it_lacks(run_python, words, message):
    done = run_python("-m", "flags.data_service", *words)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
