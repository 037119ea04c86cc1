"""The ledger of full trainings: its table, and that its rows can be checked."""

import json
from pathlib import Path

import pytest

from benchmarks import ledger
from simclr_tf.config import Config

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "results" / "cifar10"


def row(folder, linear, knn, seconds=1740.0):
    (folder / "evaluation").mkdir(parents=True)
    for mode, top1 in (("linear", linear), ("knn", knn)):
        record = {"top1": top1, "encoder_parameters": 700_000}
        (folder / "evaluation" / f"{mode}.json").write_text(json.dumps(record))
    (folder / "metrics.csv").write_text("epoch,step\n1,195\n32,6240\n")
    (folder / "ledger.json").write_text(
        json.dumps({"seconds": seconds, "cpu": "2 cores", "command": "python train.py"})
    )


def test_rows_and_the_mean_over_seeds(tmp_path):
    for seed, top1 in enumerate((0.70, 0.71, 0.72)):
        row(tmp_path / "cifar10" / f"cpu30-seed{seed}", top1, top1 + 0.01)
    row(tmp_path / "cifar10" / "long-seed0", 0.8, 0.79, seconds=8400)
    text = ledger.table(tmp_path / "cifar10")
    assert "| [cpu30-seed1](cifar10/cpu30-seed1) | 2 cores | 29.0 | 32 | 71.0 | 72.0 | 0.70 M |" in text
    assert "| cpu30, 3 seeds | | | | **71.0 ± 1.0** | **72.0 ± 1.0** | |" in text
    assert text.count("seeds") == 1 and "- `long`: `python train.py`" in text


def test_seeds_that_were_trained_otherwise_are_refused(tmp_path):
    row(tmp_path / "cpu30-seed1", 0.7, 0.7)
    (tmp_path / "cpu30-seed1" / "ledger.json").write_text(json.dumps({"command": ledger.command_of([])}))
    ledger.require_alike(tmp_path, "cpu30", ledger.command_of([]))
    ledger.require_alike(tmp_path, "cpu", ledger.command_of(["--width=0.5"]))
    with pytest.raises(SystemExit, match="cpu30-seed1 was trained by `python train.py.*another --name"):
        ledger.require_alike(tmp_path, "cpu30", ledger.command_of(["--width=0.5"]))


@pytest.mark.parametrize("folder", sorted(KEPT.glob("*/")), ids=lambda folder: folder.name)
def test_what_is_kept_of_a_row(folder):
    """Settings without paths of a machine, a log of all epochs, an encoder of less than 4 MB."""
    config = Config.load(folder / "config.json")
    assert config.data.data_dir is None and config.output.run_dir is None
    assert len((folder / "metrics.csv").read_text().splitlines()) == config.training.epochs + 1
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert checkpoint.stat().st_size < 4_000_000
    record = json.loads((folder / "evaluation" / "linear.json").read_text())
    assert record["n_test"] == 10_000 and record["data_dir"] is None
    assert f"{100 * record['top1']:.1f}" in KEPT.with_suffix(".md").read_text()
