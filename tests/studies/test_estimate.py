"""What a study will cost, from measurements that are made up or taken of small processes."""

import sys

import pytest

from simclr_tf.studies import STUDIES, estimate
from simclr_tf.studies.estimate import Cost, forecast
from simclr_tf.studies.execution import environments
from simclr_tf.studies.study import plan

ONE = environments(1)
# Leave what `train.py` and `evaluate.py` leave, as far as an estimate looks at it.
TRAIN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "metrics.csv").write_text("epoch,step,loss,learning_rate,images_per_second\\n1,6,1.0,0.1,16.0\\n")
print("steps    40 an epoch, 2 epochs")
"""
EVALUATE = "import pathlib, sys; path = pathlib.Path(sys.argv[1]); path.parent.mkdir(); path.write_text('{}')"


def commands(trial):
    return {
        "train": [sys.executable, "-c", TRAIN, str(trial.folder)],
        "evaluate": [sys.executable, "-c", EVALUATE, str(trial.record)],
    }


def test_a_cost_is_measured_by_the_two_commands(tmp_path):
    (trial,) = plan(STUDIES["temperature"], {"batch_size": 32}, tmp_path, only=["yes", "0.1"])
    cost = estimate._measure(trial, commands, ONE[0])
    assert (cost.step, cost.steps, cost.start) == (2.0, 40, 0.0)
    assert 0 < cost.judging < 60 and cost.mib > 1 and not list(tmp_path.iterdir())


def test_a_failure_is_returned(tmp_path):
    (trial,) = plan(STUDIES["temperature"], {}, tmp_path, only=["yes", "0.1"])
    fails = {"train": [sys.executable, "-c", "raise SystemExit('too hot')"], "evaluate": []}
    assert "too hot" in str(estimate._measure(trial, lambda trial: fails, ONE[0]))


@pytest.mark.parametrize("name", ["label_fraction", "invariance"])
def test_one_training_counts_once_however_often_it_is_judged(name, tmp_path, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(estimate, "_measure", lambda trial, *_: measured.append(trial) or Cost(1.0, 10, 5.0, 2.0, 100))
    trials = plan(STUDIES[name], {"epochs": 3}, tmp_path)
    assert forecast(trials, commands, ONE) == 0
    judgments = len({trial.record for trial in trials})
    seconds = 5 + 3 * 10 + 2 * judgments
    assert len(measured) == 1 and f"in all: 0:00:{seconds} with --jobs=1" in capsys.readouterr().out


def test_what_is_trained_is_only_judged(tmp_path, monkeypatch, capsys, finish):
    monkeypatch.setattr(estimate, "_measure", lambda *_: Cost(1.0, 10, 5.0, 2.0, 100))
    trials = plan(STUDIES["label_fraction"], {}, tmp_path, only=["SimCLR", "1%"])
    finish(trials[0])
    trials[0].record.unlink()
    (trials[0].folder / "encoder").mkdir()
    (trials[0].folder / "encoder" / "saved_model.pb").touch()
    forecast(trials, commands, ONE)
    assert "in all: 0:00:02" in capsys.readouterr().out
