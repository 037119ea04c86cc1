import pytest

from simclr_tf.studies import STUDIES
from simclr_tf.studies.runs import plan

TEMPERATURE = STUDIES["temperature"]


def test_flags_of_a_run(tmp_path):
    run = plan(TEMPERATURE, {"epochs": 20, "temperature": 7.0, "seed": 5}, tmp_path, seeds=2, only=["no", "100"])[1]
    assert run.flags == {"epochs": 20, "temperature": 100, "seed": 6, "normalize": False}
    assert run.folder == tmp_path / "no_100-seed6"
    train, evaluate = run.commands().values()
    assert train[1].endswith("train.py") and "--normalize=false" in train and "--resume" in train
    assert evaluate[1].endswith("evaluate.py") and f"--run_dir={run.folder}" in train and "--mode=linear" in evaluate


def test_the_whole_grid_comes_before_the_second_seed(tmp_path):
    runs = plan(TEMPERATURE, {}, tmp_path, seeds=3)
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6 + [2] * 6


def test_only(tmp_path):
    runs = plan(TEMPERATURE, {}, tmp_path, only=["yes", "0.1", "100"])
    assert [run.cell.labels for run in runs] == [("yes", "0.1")]
    with pytest.raises(ValueError, match="labels of .*Received: hot"):
        plan(TEMPERATURE, {}, tmp_path, only=["yes", "hot"])
    with pytest.raises(ValueError, match="each axis.*Received: "):
        plan(TEMPERATURE, {}, tmp_path, only=["yes"])


def test_states(tmp_path, finish):
    run = plan(TEMPERATURE, {}, tmp_path)[0]
    assert run.state() == "to do" and run.usage() == {}
    run.folder.mkdir()
    (run.folder / "config.json").write_text("{}")
    assert run.state() == "begun"
    run = plan(TEMPERATURE, {}, tmp_path / "other")[0]
    finish(run)
    assert run.state() == "done" and not run.trained
    assert run.measures()["top1"] == 50 and run.measures()["contrastive_accuracy"] == 25


def test_runs_with_other_settings_are_not_mixed_in(tmp_path, finish):
    finish(plan(TEMPERATURE, {"epochs": 20}, tmp_path)[0])
    plan(TEMPERATURE, {"epochs": 20, "strategy": "single", "checkpoint_epochs": 3}, tmp_path)
    with pytest.raises(ValueError, match="--epochs=20; .*--runs_dir. Received: --epochs=30"):
        plan(TEMPERATURE, {"epochs": 30}, tmp_path)


def test_a_cell_that_cannot_run_is_named_before_any_runs(tmp_path):
    with pytest.raises(ValueError, match="1024, 250, seed 0: --warmup_epochs"):
        plan(STUDIES["batch_epochs"], {"warmup_epochs": 400.0}, tmp_path, only=["1024", "250"])
    with pytest.raises(ValueError, match="--seeds.*Received: 0"):
        plan(TEMPERATURE, {}, tmp_path, seeds=0)
