import json
from dataclasses import replace
from io import StringIO

import keras
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from simclr_tf.data.source import Dataset, Split
from simclr_tf.evaluation import probing, report
from simclr_tf.evaluation.knn import knn_probe
from simclr_tf.evaluation.logistic import linear_probe
from simclr_tf.evaluation.probing import judge_encoder
from tests.evaluation.channels import split

PROBES = {"knn": knn_probe, "linear": linear_probe}

ROW = {"top1", "top5", "interval", "per_class", "mean_per_class", "n_train", "n_test", "hyper_parameters"}


@pytest.fixture
def dataset():
    return Dataset("channels", split(60, 0, side=4), split(30, 1, side=4), ("red", "green", "$blue$"))


def encoder():
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(inputs)))


def judge(mode, model, make_random_encoder, dataset, folder, **options):
    return judge_encoder(mode, PROBES[mode], model, make_random_encoder, dataset, 0.2, 0, folder, **options)


@pytest.mark.parametrize("mode", sorted(PROBES))
def test_record_has_what_it_promises(mode, dataset, tmp_path, capsys):
    record = judge(mode, encoder(), encoder, dataset, tmp_path, baselines=True, data_dir="/photos")
    assert json.loads((tmp_path / f"{mode}.json").read_text()) == record
    of_encoder = {"encoder_parameters", "encoder_digest_before", "encoder_digest_after"}
    assert set(record) == ROW | of_encoder | {"mode", "dataset", "data_dir", "class_names", "baselines"}
    assert record["encoder_parameters"] == 4 * 3  # of the batch norm
    assert record["encoder_digest_before"] == record["encoder_digest_after"]
    assert (record["mode"], record["dataset"], record["data_dir"]) == (mode, "channels", "/photos")
    assert (record["top1"], record["top5"], record["n_train"], record["n_test"]) == (1.0, None, 60, 30)
    assert record["class_names"] == ["red", "green", "$blue$"] and record["per_class"] == [1.0, 1.0, 1.0]
    assert list(record["baselines"]) == ["random initialization", "raw pixels"]
    assert all(set(row) == ROW for row in record["baselines"].values())
    assert imread(tmp_path / f"{mode}_confusion.png").ndim == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{mode}.json", f"{mode}_confusion.png"]
    printed = capsys.readouterr().out
    assert [name in printed for name in ("pretrained encoder", "random initialization", "raw pixels")] == [True] * 3
    assert "top-1" in printed and "top-5" not in printed


def test_without_baselines_the_random_encoder_is_not_made(dataset, tmp_path):
    record = judge("knn", encoder(), lambda: pytest.fail("was made"), dataset, tmp_path)
    assert record["baselines"] == {} and record["data_dir"] is None


def test_a_changed_encoder_is_an_error(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "extract", lambda model, images: model(images.array() / 255.0, training=True).numpy())
    with pytest.raises(RuntimeError, match="changed the encoder"):
        judge("knn", encoder(), encoder, dataset, tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_judged_on_is_refused(dataset, tmp_path):
    unlabeled = Split(dataset.train.images)
    one_class = Split(dataset.train.images, np.zeros(60, np.int32))
    two_classes = Split(dataset.train.images, np.arange(60, dtype=np.int32) % 2)
    for faulty, message in (
        (replace(dataset, train=unlabeled, class_names=None), "labeled images.*Received: channels without labels"),
        (replace(dataset, test=None), "test split.*Received: channels without one"),
        (replace(dataset, test=Split(dataset.train.images)), "labeled images"),
        (replace(dataset, train=one_class), "two classes. Received: 1"),
        (replace(dataset, train=two_classes), r"without a training image.*Received: \['\$blue\$'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            judge("linear", encoder(), encoder, faulty, tmp_path)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_is_in_percent_of_the_true_class():
    figure = report.confusion_figure(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1]), ("a", "b", "absent"))
    assert texts(figure) == ["75", "25", "0", "0", "100", "0", "0", "0", "0"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "absent"]


def test_many_classes_are_drawn_without_numbers():
    labels = np.arange(150)
    assert not texts(report.confusion_figure(labels, labels, [str(label) for label in labels]))


def test_old_files_are_replaced_and_kept_on_failure(tmp_path):
    record = {"mode": "knn", "dataset": "d", "top1": 0.5}
    path = report.write(record, np.array([0, 1]), np.array([0, 1]), ("a", "b"), tmp_path / "new")
    report.write({**record, "top1": 0.75}, np.array([0, 1]), np.array([0, 1]), ("a", "b"), tmp_path / "new")
    with pytest.raises(ValueError, match="JSON"):
        report.write({**record, "top1": float("nan")}, np.array([0, 1]), np.array([0, 1]), ("a", "b"), path.parent)
    assert json.loads(path.read_text())["top1"] == 0.75
    assert len(list(path.parent.iterdir())) == 2


TABLED = {"top1": 0.4512, "top5": None, "interval": [0.43, 0.4734], "n_train": 10_000, "n_test": 2_000,
          "hyper_parameters": {}}  # fmt: skip


def test_table_shows_percent():
    row = {**TABLED, "top5": 0.9, "hyper_parameters": {"k": 20, "top1": {"20": 0.4512, "1": 0.375}}}
    output = StringIO()
    record = {
        **row,
        "mode": "linear",
        "dataset": "cifar10",
        "baselines": {"raw pixels": {**row, "top1": 0.25, "hyper_parameters": {}}},
    }
    report.show(record, "a/b.json", Console(file=output, width=100))
    assert all(
        text in output.getvalue()
        for text in ("45.1", "43.0 to 47.3", "37.5", "90.0", "25.0", "10,000", "2,000", "a/b.json")
    )


def test_table_has_no_column_for_a_top_5_that_says_nothing():
    row = dict(TABLED)
    table = report.table({**row, "mode": "linear", "dataset": "two", "baselines": {"raw pixels": row}})
    headings = ["features", "top-1 %", "95 % interval", "training images", "test images"]
    assert [column.header for column in table.columns] == headings and table.row_count == 2
    row["top5"] = 0.9
    table = report.table({**row, "mode": "linear", "dataset": "ten", "baselines": {"raw pixels": row}})
    assert [column.header for column in table.columns] == [*headings[:3], "top-5 %", *headings[3:]]
