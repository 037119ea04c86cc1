import csv
import statistics

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf.studies import STUDIES, figures, results
from simclr_tf.studies.runs import plan


def finished(name, folder, finish, seeds=2, **options):
    """A study of which all runs but the last are done, with accuracies that rise from run to run."""
    runs = plan(STUDIES[name], {}, folder, seeds=seeds, **options)
    for index, run in enumerate(runs[:-1]):
        finish(run, top1=0.3 + 0.005 * index)
    return runs


def test_mean_and_deviation(tmp_path, finish):
    study, runs = STUDIES["temperature"], finished("temperature", tmp_path, finish)
    summary = results.summarize(study, runs)
    assert list(summary) == [cell.labels for cell in study.cells]
    mine = [run.measures()["top1"] for run in runs if run.cell.labels == ("yes", "0.1")]
    spread = summary["yes", "0.1"]["top1"]
    assert spread == (statistics.fmean(mine), statistics.stdev(mine), 2)
    assert summary["no", "100"]["top1"].std is None and summary["no", "100"]["top1"].seeds == 1


def test_deviation_pooled_over_cells():
    cells = [[1.0, 3.0], [5.0, 5.0, 8.0], [9.0]]
    squares = sum((value - statistics.fmean(cell)) ** 2 for cell in cells for value in cell)
    assert results.pooled(map(results.spread, cells)) == pytest.approx((squares / 3) ** 0.5)
    assert results.pooled([results.spread([9.0])]) is None


def test_report(tmp_path, finish):
    study, runs = STUDIES["temperature"], finished("temperature", tmp_path, finish)
    results.write_csv(study, runs, tmp_path / "results.csv")
    results.write_markdown(study, runs, "the command", "results.png", tmp_path / "results.md")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11 and rows[1]["temperature"] == "0.1" and float(rows[1]["top1"]) == pytest.approx(30.5)
    text = (tmp_path / "results.md").read_text()
    assert "11 of 12 runs are done" in text and "the command" in text and "(results.png)" in text
    assert "deviation of top-1 is 2.1 points" in text  # 3 steps of half a point apart in every cell
    (line,) = (line for line in text.splitlines() if line.startswith("| yes | 0.1 |"))
    assert line == "| yes | 0.1 | 3.00 ± 0.00 | 25.0 ± 0.0 | 32.0 ± 2.1 | 2 | 4.5 | 87.8 | 64.4 |"


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_columns_have_names_of_their_own(name, tmp_path):
    results.write_csv(STUDIES[name], [], tmp_path / "results.csv")
    columns = (tmp_path / "results.csv").read_text().strip().split(",")
    assert len(set(columns)) == len(columns) > 12


def test_cells_without_a_result_stay_in_the_table(tmp_path):
    study = STUDIES["loss"]
    lines = results.table(study, plan(study, {}, tmp_path), {})
    assert len(lines) == 2 + 8 and "| no | nt_xent |  | 0 | 63.9 |" in lines


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_figures(name, tmp_path, finish):
    """Each has marks: it is no empty frame."""
    study, runs = STUDIES[name], finished(name, tmp_path, finish)
    summary = results.summarize(study, runs)
    sizes = results.parameters(study, runs)
    assert set(sizes.values()) == ({10**6} if study.figure == "parameters" else set())
    figures.draw(study, summary, tmp_path / "a.png", sizes)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[0] > 400 and picture.shape[1] > 600
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("only", [["crop", "color"], ["crop", "color", "rotate"], []])
def test_heat_maps_of_any_size_are_not_cut_off(only, tmp_path, finish):
    study, runs = STUDIES["augmentation_pairs"], finished("augmentation_pairs", tmp_path, finish, only=only)
    figures.draw(study, results.summarize(study, runs), tmp_path / "a.png", {})
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_no_figure_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="Received: Temperature"):
        figures.draw(STUDIES["temperature"], {}, tmp_path / "a.png", {})


def test_hparams_in_tensorboard(tmp_path, finish):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    from simclr_tf.studies import hparams

    study, runs = STUDIES["temperature"], finished("temperature", tmp_path, finish, seeds=1)
    for _ in range(2):  # again, in place of what was there
        hparams.write(study, runs, tmp_path / "tensorboard")
    folders = [path for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == sorted(run.folder.name for run in runs[:-1])
    events = EventAccumulator(str(tmp_path / "tensorboard" / runs[0].folder.name)).Reload()
    (event,) = events.Tensors("top1")
    assert tf.make_ndarray(event.tensor_proto) == 30
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = data.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["temperature"].string_value == "0.05" and values["--temperature"].number_value == 0.05
    assert values["--seed"].number_value == 0 and values["--normalize"].bool_value
