"""Tests of the epoch log: what it writes, what it leaves out, what it refuses to write."""

import io
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simclr_tf.training import epoch_log, metrics
from simclr_tf.training.epoch_log import EpochLog

HEADER = "epoch,step,loss,val_loss,contrastive_accuracy,contrastive_entropy,learning_rate,images_per_second"
MEASURES = {
    "loss": "loss {:.4f}",
    "val_loss": "val_loss {:.4f}",
    "contrastive_accuracy": "contrastive accuracy {:.1%}",
    "contrastive_entropy": "entropy {:.2f}",
}
LOGS = {"loss": 4.8123, "val_loss": 4.9012, "contrastive_accuracy": 0.123, "contrastive_entropy": 5.91}


class Clock:
    """A clock that is told the time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(epoch_log.time, "perf_counter", clock)
    return clock


def make_log(folder, stream=None, **options):
    options = {"learning_rate": lambda step: 0.1 * step, "total_epochs": 10} | options
    folder.mkdir(exist_ok=True)
    (folder / "config.json").touch()  # a run's, without which its folder counts as deleted
    return EpochLog(folder, MEASURES, images_per_step=8, stream=stream, **options)


def run_epoch(log, epoch, logs, clock, step_seconds=(10.0, 0.5, 0.5), validation_seconds=100.0):
    log.on_epoch_begin(epoch)
    for batch, seconds in enumerate(step_seconds):
        clock.now += seconds
        log.on_train_batch_end(batch)
    clock.now += validation_seconds
    log.on_epoch_end(epoch, logs)


def rows(folder):
    return metrics.read_rows(folder / "metrics.csv")


def test_row_has_exactly_the_columns_at_full_precision(tmp_path, clock):
    run_epoch(make_log(tmp_path), 0, LOGS | {"loss": 0.1 + 0.2, "other": 1.0}, clock)
    assert (tmp_path / "metrics.csv").read_text() == (f"{HEADER}\n1,3,0.30000000000000004,4.9012,0.123,5.91,0.2,16.0\n")


def test_rate_excludes_the_first_step_of_each_epoch_and_validation(tmp_path, clock):
    log = make_log(tmp_path)
    run_epoch(log, 0, LOGS, clock, step_seconds=(60.0, 2.0, 2.0))
    run_epoch(log, 1, LOGS, clock, step_seconds=(1.0, 1.0, 1.0))
    run_epoch(log, 2, LOGS, clock, step_seconds=(20.0, 1.0, 1.0))  # views of another size, compiled anew
    run_epoch(log, 3, LOGS, clock, step_seconds=(2.0,))
    assert [row["images_per_second"] for row in rows(tmp_path)] == [4.0, 8.0, 8.0, 4.0]


def test_rate_is_empty_when_only_the_first_step_ran(tmp_path, clock):
    stream = io.StringIO()
    run_epoch(make_log(tmp_path, stream), 0, LOGS, clock, step_seconds=(60.0,))
    assert rows(tmp_path)[0]["images_per_second"] is None
    assert "images/s" not in stream.getvalue()


def test_printed_line(tmp_path, clock):
    stream = io.StringIO()
    log = make_log(tmp_path, stream, learning_rate=lambda step: 0.8731)
    run_epoch(log, 2, LOGS, clock)
    assert stream.getvalue() == (
        "epoch  3/10  step 3  loss 4.8123  val_loss 4.9012  contrastive accuracy 12.3 %  entropy 5.91  lr 0.873  "
        "16 images/s\n"
    )


def test_missing_validation_is_an_empty_cell(tmp_path, clock):
    stream = io.StringIO()
    run_epoch(make_log(tmp_path, stream), 0, {"loss": 1.0}, clock)
    assert rows(tmp_path)[0]["val_loss"] is None
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1].startswith("1,3,1.0,,,,")
    assert "val_loss" not in stream.getvalue()


def test_without_a_stream_nothing_is_printed(tmp_path, clock, capsys):
    run_epoch(make_log(tmp_path), 0, LOGS, clock)
    assert capsys.readouterr().out == "" and len(rows(tmp_path)) == 1


def test_resume_drops_rows_after_the_checkpoint(tmp_path, clock):
    log = make_log(tmp_path)
    for epoch in range(3):
        run_epoch(log, epoch, LOGS, clock, step_seconds=(0.5, 0.5, 0.5))
    text = (tmp_path / "metrics.csv").read_text()
    resumed = make_log(tmp_path, first_step=6, first_epoch=2)
    run_epoch(resumed, 2, LOGS | {"loss": 7.0}, clock, step_seconds=(1.0, 0.5, 0.5))
    assert (tmp_path / "metrics.csv").read_text() == text.replace("3,9,4.8123", "3,9,7.0")
    assert [event.step for event in events(tmp_path).Tensors("loss")] == [3, 6, 9]
    run_epoch(make_log(tmp_path), 0, LOGS, clock)
    assert [row["epoch"] for row in rows(tmp_path)] == [1]


def test_what_an_earlier_process_measured_stays(tmp_path, clock):
    run_epoch(make_log(tmp_path), 0, LOGS, clock)
    path = tmp_path / "metrics.csv"
    columns = (*metrics.FIRST, *MEASURES, "knn", *metrics.LAST)
    metrics.write_rows(path, columns, [row | {"knn": 0.25} for row in rows(tmp_path)])
    run_epoch(make_log(tmp_path, first_step=3, first_epoch=1), 1, LOGS, clock)
    assert tuple(rows(tmp_path)[0]) == columns and [row["knn"] for row in rows(tmp_path)] == [0.25, None]


def test_foreign_table_is_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("name,age\n")
    with pytest.raises(ValueError, match="Received: .*metrics.csv"):
        make_log(tmp_path)


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.array([np.nan], np.float32)])
def test_loss_that_is_not_finite_raises_before_anything_is_written(tmp_path, clock, name, value):
    stream = io.StringIO()
    log = make_log(tmp_path, stream)
    run_epoch(log, 0, LOGS, clock)
    before = (tmp_path / "metrics.csv").read_text(), stream.getvalue()
    with pytest.raises(FloatingPointError, match=rf"epoch 2 \(step 6\).*`learning_rate`.*Received: {name}=(nan|inf)$"):
        run_epoch(log, 1, LOGS | {name: value}, clock)
    assert ((tmp_path / "metrics.csv").read_text(), stream.getvalue()) == before
    assert [event.step for event in events(tmp_path).Tensors("loss")] == [3]


def test_logs_without_a_loss_are_refused(tmp_path, clock):
    with pytest.raises(ValueError, match=r"Received: \['val_loss'\]"):
        run_epoch(make_log(tmp_path), 0, {"val_loss": 1.0}, clock)
    assert not (tmp_path / "metrics.csv").exists()


def test_scalar_takes_numbers_arrays_and_tensors():
    values = [2.5, np.float32(2.5), np.array(2.5), np.array([2.5]), tf.constant(2.5), tf.constant([2.5])]
    assert [epoch_log.scalar(value) for value in values] == [2.5] * 6
    with pytest.raises(ValueError, match=r"Received: an array of shape \(2,\)"):
        epoch_log.scalar(np.zeros(2))


def events(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_the_columns_at_the_global_step_and_the_image(tmp_path, clock):
    log = make_log(tmp_path, first_step=100, first_epoch=3)
    run_epoch(log, 3, LOGS, clock)
    log.write_image("views", np.full((4, 6, 3), 7, np.uint8))
    found = events(tmp_path)
    assert set(found.Tags()["tensors"]) == set(HEADER.split(",")) - {"step"} | {"views"}
    (loss,) = found.Tensors("loss")
    assert loss.step == 103 and tf.make_ndarray(loss.tensor_proto) == np.float32(4.8123)
    width, height, *pictures = tf.make_ndarray(found.Tensors("views")[0].tensor_proto)
    assert (width, height, len(pictures)) == (b"6", b"4", 1)
    assert (tf.io.decode_png(pictures[0]).numpy() == 7).all()


def test_steps_that_a_loss_scale_left_out_do_not_lower_the_rate(tmp_path, clock):
    log = make_log(tmp_path)
    log.set_model(
        SimpleNamespace(optimizer=SimpleNamespace(iterations=3, inner_optimizer=SimpleNamespace(iterations=1)))
    )
    run_epoch(log, 0, LOGS, clock)
    assert rows(tmp_path)[0]["learning_rate"] == 0.0  # that of the first step that was taken


def fit_logs(folder):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((24, 4), np.float32), np.ones((24, 1), np.float32)
    log = make_log(folder, total_epochs=2)
    model.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), callbacks=[log], verbose=0)
    return rows(folder)


def test_fit_fills_the_table_and_identical_runs_give_identical_text(tmp_path):
    first, second = fit_logs(tmp_path / "a"), fit_logs(tmp_path / "b")
    assert [(row["epoch"], row["step"]) for row in first] == [(1, 3), (2, 6)]
    assert all(row["images_per_second"] > 0 and row["val_loss"] > 0 for row in first)
    assert [row | {"images_per_second": 0} for row in first] == [row | {"images_per_second": 0} for row in second]


def test_a_binary_table_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"Expected a table.*Received: .*metrics\.csv"):
        make_log(tmp_path)
