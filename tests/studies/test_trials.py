import json
import os

import pytest

from simclr_tf.studies import STUDIES
from simclr_tf.studies.study import plan

TEMPERATURE = STUDIES["temperature"]


def test_settings_of_a_trial(tmp_path):
    given = {"epochs": 20, "temperature": 7.0, "seed": 5}
    trial = plan(TEMPERATURE, given, tmp_path, seeds=2, only=["no", "100"])[1]
    assert trial.settings == {"epochs": 20, "temperature": 100, "seed": 6, "normalize": False, "loss": "nt_xent"}
    assert trial.folder == tmp_path / "no_100-seed6" and trial.log == tmp_path / "no_100-seed6.log"
    assert str(trial) == "no, 100, seed 6" and trial.judgment.mode == "linear"


def test_the_whole_grid_comes_before_the_second_seed(tmp_path):
    trials = plan(TEMPERATURE, {}, tmp_path, seeds=3)
    assert [trial.settings["seed"] for trial in trials] == [0] * 6 + [1] * 6 + [2] * 6


def test_only(tmp_path):
    trials = plan(TEMPERATURE, {}, tmp_path, only=["yes", "0.1", "100"])
    assert [trial.labels for trial in trials] == [("yes", "0.1")]
    with pytest.raises(ValueError, match="labels of .*Received: hot$"):
        plan(TEMPERATURE, {}, tmp_path, only=["yes", "hot"])
    with pytest.raises(ValueError, match="each axis.*Received: yes$"):
        plan(TEMPERATURE, {}, tmp_path, only=["yes"])


def test_states(tmp_path, finish):
    trial = plan(TEMPERATURE, {}, tmp_path)[0]
    assert trial.state() == "to do" and trial.usage() == {}
    trial.folder.mkdir()
    (trial.folder / "config.json").write_text("{}")
    assert trial.state() == "begun"
    (trial.folder / "encoder").mkdir()
    (trial.folder / "encoder" / "saved_model.pb").write_text("")
    os.utime(trial.folder / "encoder" / "saved_model.pb", (1, 1))
    assert trial.state() == "begun"  # exported by hand, after an interruption
    finish(trial)
    trial.record.unlink()
    assert trial.state() == "begun"  # the export is older than the end of the training
    (trial.folder / "encoder" / "saved_model.pb").touch()
    assert trial.state() == "trained"
    trial = plan(TEMPERATURE, {}, tmp_path / "other")[0]
    finish(trial)
    assert trial.state() == "done"
    assert trial.measures()["top1"] == 50 and trial.measures()["contrastive_accuracy"] == 25


def test_a_half_trained_run_that_was_judged_by_hand_is_not_done(tmp_path, finish):
    trial = plan(TEMPERATURE, {"epochs": 20}, tmp_path)[0]
    finish(trial)
    metrics = trial.folder / "metrics.csv"
    whole = metrics.read_text()
    metrics.write_text(whole.replace("20", "19", 1))
    assert trial.state() == "begun"
    metrics.unlink()
    assert trial.state() == "begun"
    metrics.write_text(whole)
    os.utime(trial.record, (1, 1))
    assert trial.state() == "begun"  # the record is of the half of the training that there was
    trial.record.touch()
    assert trial.state() == "done"


def test_measures_say_what_it_took_and_may_lack_top5(tmp_path, finish):
    """With five classes or fewer, top-5 says nothing, and the record has none."""
    trial = plan(TEMPERATURE, {}, tmp_path)[0]
    finish(trial, top5=None)
    (trial.folder / "study.json").write_text(json.dumps({"train_seconds": 3.5}))
    assert trial.measures()["top5"] is None and trial.measures()["train_seconds"] == 3.5
    (trial.folder / "study.json").write_text(json.dumps({"train_seconds": 3.5, "whole": False}))
    assert trial.measures()["train_seconds"] is None


def test_runs_with_other_settings_are_not_mixed_in(tmp_path, finish):
    finish(plan(TEMPERATURE, {"epochs": 20}, tmp_path)[0])
    plan(TEMPERATURE, {"epochs": 20, "strategy": "single", "checkpoint_epochs": 3}, tmp_path)
    with pytest.raises(ValueError, match="`epochs=20`; .*`runs_dir`. Received: `epochs=30`"):
        plan(TEMPERATURE, {"epochs": 30}, tmp_path)
    with pytest.raises(ValueError, match="`data_dir=None`; .*`runs_dir`. Received: `data_dir=/elsewhere`"):
        plan(TEMPERATURE, {"epochs": 20, "data_dir": "/elsewhere"}, tmp_path)


def test_a_cell_that_cannot_run_is_named_before_any_runs(tmp_path):
    with pytest.raises(ValueError, match="256, 1, seed 0: `resolutions` .* no more of them than epochs"):
        plan(STUDIES["batch_epochs"], {"epochs": 4, "resolutions": "16,24,32"}, tmp_path, only=["256", "1"])
