import csv
import json
import statistics

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf.config import Config
from simclr_tf.studies import STUDIES, figures, results
from simclr_tf.studies.study import plan


def finished(name, folder, finish, seeds=2, **options):
    """A study of which all trials but the last are done, with accuracies that rise from trial to trial."""
    trials = plan(STUDIES[name], {}, folder, seeds=seeds, **options)
    for index, trial in enumerate(trials[:-1]):
        finish(trial, top1=0.3 + 0.005 * index)
    return trials


def test_mean_and_deviation(tmp_path, finish):
    study, trials = STUDIES["temperature"], finished("temperature", tmp_path, finish)
    summary = results.summarize(study, trials)
    assert list(summary) == list(study.cells_of(Config()))
    mine = [trial.measures()["top1"] for trial in trials if trial.labels == ("yes", "0.1")]
    assert summary["yes", "0.1"]["top1"] == mine and len(mine) == 2
    (line,) = (line for line in results.table(study, trials, summary) if line.startswith("| yes | 0.1 |"))
    assert f"| {statistics.fmean(mine):.1f} ± {statistics.stdev(mine):.1f} | 2 |" in line
    (line,) = (line for line in results.table(study, trials, summary) if line.startswith("| no | 100 |"))
    assert "±" not in line and f"| {summary['no', '100']['top1'][0]:.1f} | 1 |" in line


def test_settings_and_times_that_are_not_there_leave_no_trace(tmp_path, finish):
    """The recipe study takes settings away, and an interrupted training has no time of its own."""
    trials = plan(STUDIES["recipe"], {"projection_width": 64, "resolutions": "16,32"}, tmp_path)
    for trial in trials:
        finish(trial)
    (trials[0].folder / "study.json").write_text('{"train_seconds": 3.0, "whole": true}')
    results.write(STUDIES["recipe"], trials, "command", tmp_path / "report", tmp_path / "tensorboard")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| as it is | 3 | 50.0 | 1 |" in lines and "| head as wide as h |  | 50.0 | 1 |" in lines


def test_deviation_pooled_over_cells():
    cells = [[1.0, 3.0], [5.0, 5.0, 8.0], [9.0]]
    squares = sum((value - statistics.fmean(cell)) ** 2 for cell in cells for value in cell)
    assert results.pooled(cells) == pytest.approx((squares / 3) ** 0.5)
    assert results.pooled([[9.0]]) is None


def test_guesses_have_no_part_in_the_deviation(tmp_path, finish):
    trials = plan(STUDIES["invariance"], {}, tmp_path, seeds=2, only=["rotation", "guess", "h", "g(h)"])
    for trial in trials:
        finish(trial, top1=0.5 + 0.02 * trial.settings["seed"])
        record = json.loads(trial.record.read_text())
        record["questions"]["rotation"]["guess"] = 0.25
        trial.record.write_text(json.dumps(record))
    results.write_markdown(STUDIES["invariance"], trials, "the command", tmp_path / "results.md")
    assert "deviation of top-1 is 1.4 points" in (tmp_path / "results.md").read_text()


def test_report(tmp_path, finish):
    study, trials = STUDIES["temperature"], finished("temperature", tmp_path, finish)
    results.write_csv(study, trials, tmp_path / "results.csv")
    results.write_markdown(study, trials, "the command", tmp_path / "results.md")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11 and rows[1]["temperature"] == "0.1" and float(rows[1]["top1"]) == pytest.approx(30.5)
    text = (tmp_path / "results.md").read_text()
    assert "11 of 12 runs are done" in text and "the command" in text and "(results.png)" in text
    assert "deviation of top-1 is 2.1 points" in text  # 3 steps of half a point apart in every cell
    (line,) = (line for line in text.splitlines() if line.startswith("| yes | 0.1 |"))
    assert line == "| yes | 0.1 | 3.00 ± 0.00 | 25.0 ± 0.0 | 32.0 ± 2.1 | 2 | 4.5 | 87.8 | 64.4 |"


def test_a_record_without_top5_leaves_the_cell_empty(tmp_path, finish):
    study, trials = STUDIES["temperature"], plan(STUDIES["temperature"], {}, tmp_path, only=["yes", "0.1"])
    finish(trials[0], top5=None)
    results.write(study, trials, "the command", tmp_path / "results", tmp_path / "tensorboard")
    with (tmp_path / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["top5"] == "" and float(row["top1"]) == 50
    assert {path.name for path in tmp_path.glob("results.*")} == {"results.csv", "results.md", "results.png"}


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
    """Each has colored marks: it is no empty frame."""
    study, trials = STUDIES[name], finished(name, tmp_path, finish)
    summary = results.summarize(study, trials)
    assert {size for measures in summary.values() for size in measures["encoder_parameters"]} == {10**6}
    figures.draw(study, summary, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[0] > 400 and picture.shape[1] > 600
    colored = np.ptp(picture.astype(int), axis=2) > 40  # text and lines are gray
    assert colored.mean() > (0.001 if study.figure == "parameters" else 0.03)


@pytest.mark.parametrize("only", [["crop", "color"], ["crop", "color", "rotate"]])
def test_heat_maps_of_any_size_are_not_cut_off(only, tmp_path, finish):
    study, trials = STUDIES["augmentation_pairs"], finished("augmentation_pairs", tmp_path, finish, only=only)
    figures.draw(study, results.summarize(study, trials), tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_no_figure_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="Received: Temperature"):
        figures.draw(STUDIES["temperature"], {}, tmp_path / "a.png")


def test_hparams_in_tensorboard(tmp_path, finish):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    study, trials = STUDIES["temperature"], finished("temperature", tmp_path, finish, seeds=1)
    for _ in range(2):  # again, in place of what was there
        results.write_hparams(study, trials, tmp_path / "tensorboard")
    folders = [path for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == sorted(trial.folder.name for trial in trials[:-1])
    events = EventAccumulator(str(tmp_path / "tensorboard" / trials[0].folder.name)).Reload()
    (event,) = events.Tensors("top1")
    assert tf.make_ndarray(event.tensor_proto) == 30
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = data.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["temperature"].string_value == "0.05" and values["--temperature"].number_value == 0.05
    assert values["--seed"].number_value == 0 and values["--normalize"].bool_value
