"""The ledger of full trainings: its table, and that its rows can be checked."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import kept_encoder, ledger
from simclr_tf.config import Config
from simclr_tf.training import checkpoints

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "results" / "cifar10"


def row(folder, linear, knn, seconds=1740.0):
    (folder / "evaluation").mkdir(parents=True)
    for mode, top1 in (("linear", linear), ("knn", knn)):
        record = {"top1": top1, "encoder_parameters": 700_000}
        (folder / "evaluation" / f"{mode}.json").write_text(json.dumps(record))
    columns = "epoch,step,loss,learning_rate,images_per_second"
    (folder / "metrics.csv").write_text(f"{columns}\n1,195,4.1,1.0,700.0\n32,6240,2.6,0.0,700.0\n")
    (folder / "ledger.json").write_text(
        json.dumps({"seconds": seconds, "hardware": "2 cores", "command": "python train.py"})
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
    """Settings without paths of a machine, a log of all epochs, an encoder of less than 4 MB if that is possible."""
    config = Config.load(folder / "config.json")
    assert config.data.data_dir is None and config.output.run_dir is None
    assert len((folder / "metrics.csv").read_text().splitlines()) == config.training.epochs + 1
    record = json.loads((folder / "evaluation" / "linear.json").read_text())
    encoders = [*folder.rglob("*.npz")]
    assert len(encoders) == (record["encoder_parameters"] < 4_000_000)
    assert all(encoder.stat().st_size < 4_000_000 for encoder in encoders)
    assert record["n_test"] == 10_000 and record["data_dir"] is None


def test_the_page_shows_what_is_kept():
    assert f"<!-- table -->\n\n{ledger.table(KEPT)}\n<!-- end -->" in KEPT.with_suffix(".md").read_text()


def test_a_row_whose_time_is_unknown_is_refused(tmp_path):
    """As after a SIGKILL, which leaves the training behind."""
    (tmp_path / "run-seed0.training").touch()
    with pytest.raises(SystemExit, match="run-seed0 is training, or was killed and its time is unknown"):
        ledger.train(tmp_path / "run-seed0", [])
    assert not (tmp_path / "run-seed0").exists()


def arrays_of(*shapes):
    rng = np.random.default_rng(0)
    return {f"layer{index}/kernel": rng.normal(size=shape).astype(np.float32) for index, shape in enumerate(shapes)}


def test_eight_bits_are_off_by_half_a_step_of_their_channel(tmp_path):
    arrays = arrays_of((3, 3, 8, 16), (7,))
    arrays["layer0/kernel"] *= np.logspace(-3, 3, 16, dtype=np.float32)
    arrays["layer0/kernel"][..., 5] = 0  # a dead channel
    kept_encoder.pack(tmp_path / "encoder.npz", arrays)
    found = kept_encoder.unpack(tmp_path / "encoder.npz")
    assert found.keys() == arrays.keys() and {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    steps = np.abs(arrays["layer0/kernel"]).max(axis=(0, 1, 2)) / 127
    assert np.all(np.abs(found["layer0/kernel"] - arrays["layer0/kernel"]) <= 0.5001 * steps)
    assert np.array_equal(found["layer1/kernel"], arrays["layer1/kernel"])


def test_a_depthwise_kernel_has_a_step_for_each_channel():
    """Its last axis is the number of filters a channel, which is one."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 1)) * np.logspace(-3, 3, 8)[:, None]
    integers, scales = kept_encoder.rounded(kernel)
    steps = np.abs(kernel).max(axis=(0, 1, 3), keepdims=True) / 127
    assert np.all(np.abs(integers * scales - kernel) <= 0.5001 * steps)


@pytest.mark.parametrize("filters, exact", [(16, True), (1024, False)])
def test_what_is_kept_makes_a_run_again(tmp_path, filters, exact):
    """Exact where it is small enough, in a quarter of its size otherwise."""
    folder, arrays = tmp_path / "row", arrays_of((3, 3, 128, filters), (filters,))
    row(folder, 0.7, 0.7)
    (folder / "config.json").write_text("{}")
    kept_encoder.keep(folder, checkpoints.Position(32), arrays, {"image_shape": [32, 32, 3]})
    (file,) = folder.rglob("*.npz")
    assert file.stat().st_size < (1.1 if exact else 0.26) * sum(array.nbytes for array in arrays.values())
    kept_encoder.make_run(folder, tmp_path / "run")
    saved = checkpoints.loaded(tmp_path / "run" / "checkpoints")
    assert saved.epoch == 32 and saved.meta == {"image_shape": [32, 32, 3]}
    for name, array in arrays.items():
        np.testing.assert_allclose(saved.variables[name], array, atol=0 if exact else np.abs(array).max() / 250)
    assert not (tmp_path / "run" / "evaluation").exists()


def test_what_is_too_large_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_encoder, "LARGEST_FILE", 1000)
    row(tmp_path, 0.7, 0.7)
    arrays, meta = arrays_of((3, 3, 16, 16)), {"image_shape": [32, 32, 3]}
    assert not kept_encoder.keep(tmp_path, checkpoints.Position(32), arrays, meta)
    assert not [*tmp_path.rglob("*.npz")]
    monkeypatch.setattr("sys.argv", ["kept_encoder", f"--row={tmp_path}", f"--run_dir={tmp_path / 'run'}"])
    with pytest.raises(SystemExit, match="^kept_encoder: error: .*too large to be kept"):
        kept_encoder.main()
    assert not (tmp_path / "run").exists()


def test_a_bundle_becomes_a_row_when_it_is_done_and_as_it_was_lowered(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="^ledger: error: expected a bundle that"):
        ledger.from_bundle(tmp_path, [])
    row(tmp_path, 0.7, 0.7)
    (tmp_path / "config.json").write_text(json.dumps(Config.of(epochs=2, seed=3).to_dict()))
    (tmp_path / "out").mkdir()
    device = {"step": 6240, "seconds": 12.5, "device": "NVIDIA H200", "jax": "0.11.2"}
    (tmp_path / "out" / "device.json").write_text(json.dumps(device))
    monkeypatch.setattr(ledger.gpu_bundle, "config_of", lambda words: Config.of(epochs=len(words)))
    with pytest.raises(SystemExit, match="lowered with epochs=2. Received: epochs=1"):
        ledger.from_bundle(tmp_path, ["--flag"])
    assert ledger.from_bundle(tmp_path, ["--two", "--flags"]) == 3
    record = json.loads((tmp_path / "ledger.json").read_text())
    assert record == {"seconds": 12.5, "hardware": "NVIDIA H200", "packages": {"jax": "0.11.2"}}
    (tmp_path / "out" / "device.json").write_text(json.dumps(device | {"step": 6241}))
    with pytest.raises(SystemExit, match="run and restore it first"):
        ledger.from_bundle(tmp_path, ["--two", "--flags"])


@pytest.mark.parametrize(
    "words", [[], ["--row=nowhere", "--run_dir=new"], ["--row={row}"], ["--row={row}", "--run_dir={row}"]]
)
def test_what_is_no_row_is_refused_in_one_line(tmp_path, monkeypatch, words):
    row(tmp_path, 0.7, 0.7)
    monkeypatch.setattr("sys.argv", ["kept_encoder", *(word.format(row=tmp_path) for word in words)])
    with pytest.raises(SystemExit, match="^kept_encoder: error: expected --row"):
        kept_encoder.main()
