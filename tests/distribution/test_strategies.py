"""From the name of a strategy to the strategy, with stand-ins for hardware that this machine lacks."""

import json
import socket
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import distribution
from simclr_tf.config import Hardware
from simclr_tf.data.pipeline import ordered_batches
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.distribution import workers
from simclr_tf.distribution.strategy import CONNECT_TIMEOUT

TPUClusterResolver = tf.distribute.cluster_resolver.TPUClusterResolver


@pytest.mark.parametrize("tpu", ["local", "my-tpu"])
def test_tpu_connects_and_builds_on_its_resolver(monkeypatch, tpu):
    asked, resolver = [], object()
    monkeypatch.setattr(TPUClusterResolver, "connect", lambda tpu: asked.append(tpu) or resolver)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda given: ("strategy", given))
    assert distribution.make_strategy(Hardware(strategy="tpu", tpu=tpu)) == ("strategy", resolver)
    assert asked == [tpu]


def test_tpu_address_is_tried_before_tensorflow_waits_forever(monkeypatch):
    monkeypatch.setattr(TPUClusterResolver, "connect", lambda tpu: pytest.fail("nothing listens there"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"grpc://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"Received: `tpu={address}`"):
        distribution.make_strategy(Hardware(strategy="tpu", tpu=address))
    assert time.monotonic() - start < CONNECT_TIMEOUT + 5


def test_tpu_address_that_answers_is_handed_on(monkeypatch):
    monkeypatch.setattr(TPUClusterResolver, "connect", lambda tpu: tpu)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: resolver)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        assert distribution.make_strategy(Hardware(strategy="tpu", tpu=address)) == address


def test_without_a_tpu_train_ends_at_once_with_one_line(run_python):
    done = run_python("train.py", "--strategy=tpu", "--batch_size=1024", TPU_SKIP_MDS_QUERY="1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "--strategy=tpu needs a TPU" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", '{"cluster": {}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)  # fmt: skip
def test_wrong_tf_config_is_named(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG.*Received: "):
        distribution.make_strategy(Hardware(strategy="multiworker"))


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="has a GPU")
def test_nccl_needs_gpus(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    )
    with pytest.raises(ValueError, match="`communication=nccl`"):
        distribution.make_strategy(Hardware(strategy="multiworker", communication="nccl"))


@pytest.mark.parametrize("communication", ["auto", "ring"])
def test_communication_reaches_the_strategy(monkeypatch, communication):
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    )
    monkeypatch.setattr(
        tf.distribute, "MultiWorkerMirroredStrategy", lambda communication_options: communication_options
    )
    options = distribution.make_strategy(Hardware(strategy="multiworker", communication=communication))
    assert options.implementation.value == communication.upper()


WORKER = """
import simclr_tf.quiet
from simclr_tf import distribution
from simclr_tf.config import Hardware
hardware = Hardware(strategy="multiworker")
strategy = distribution.make_strategy(hardware)
print(distribution.describe(strategy), *distribution.notes(strategy, hardware), sep="\\n")
"""


def test_a_worker_without_tf_config_is_told_that_it_is_alone(run_python, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    done = run_python(script, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr
    first, *notes = done.stdout.splitlines()
    assert first.startswith("MultiWorkerMirroredStrategy, 1 replica")
    assert notes == ["this process is the only worker: TF_CONFIG is not set"]


def test_other_strategies_have_no_notes():
    for name in ("auto", "single"):
        hardware = Hardware(strategy=name)
        assert distribution.notes(distribution.make_strategy(hardware), hardware) == []


def test_other_errors_are_left_as_they_are():
    with pytest.raises(tf.errors.UnavailableError, match="collective"):
        with distribution.naming_lost_workers(tf.distribute.get_strategy()):
            raise tf.errors.UnavailableError(None, None, "collective")


def test_a_worker_reads_its_own_images_only(monkeypatch):
    read, array_read = [], ArrayImages.read

    def noting(self, indices):
        tf.py_function(lambda rows: read.extend(rows.numpy().tolist()), [indices], [])
        return array_read(self, indices)

    monkeypatch.setattr(ArrayImages, "read", noting)
    split = Split(ArrayImages(np.zeros((30, 8, 8, 3), np.uint8)))
    stream = ordered_batches(split, 12, True, tf.distribute.InputContext(2, 1, 4))
    assert len(list(stream.take(4))) == 4
    assert set(read) == {*range(6, 12), *range(18, 24)}


def test_workers_about_to_do_different_things_are_told(monkeypatch):
    monkeypatch.setattr(workers, "num_workers", lambda strategy: 2)

    def strategy(difference):
        """Of two workers, the other of which has another digest."""
        return SimpleNamespace(
            run=lambda function: function(), gather=lambda own, axis: tf.concat([own, own + difference], axis)
        )

    workers.require_agreement(strategy(0), "tau 0.1")
    with pytest.raises(ValueError, match="same settings.*Received: tau 0.1 on this worker"):
        workers.require_agreement(strategy(1), "tau 0.1")
