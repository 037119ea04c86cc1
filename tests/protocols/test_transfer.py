"""Transfer of a tiny run to a folder of images."""

import json

import numpy as np
import pytest
from PIL import Image

from simclr_tf.config import Transfer
from simclr_tf.evaluation import evaluate
from simclr_tf.protocols import transfer


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, channel in (("blue", 2), ("red", 0)):
        for part, count in (("train", 20), ("test", 10)):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(tmp_path / part / name / f"{index}.png")
    return tmp_path


def test_linear_and_finetuned_on_each_target(tiny_run, photos, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "RATES", (0.01, 0.1))
    target = f"folder:{photos}"
    record = evaluate(tiny_run, "transfer", targets=target, epochs=1, batch_size=12)
    folder = tiny_run / "evaluation"
    assert json.loads((folder / "transfer.json").read_text()) == record
    row = record["targets"][target]
    assert (row["seed"], row["batch_size"]) == (0, 12)
    assert row["linear"]["top1"] == 1 and row["linear"]["n_train"] == 40 and row["finetune"]["n_train"] == 40
    tried = row["finetune"]["hyper_parameters"]["validation_top1"]
    assert set(tried) == {"0.01", "0.1"}
    assert tried[f"{row['finetune']['hyper_parameters']['learning_rate']:g}"] == max(tried.values())
    assert len(list((folder / "transfer").glob("*/finetune-rate*-seed0/checkpoints"))) == 2
    assert len(list((folder / "transfer").glob("*/finetune-all-rate*-seed0/checkpoints"))) == 1
    assert "fine-tuned" in capsys.readouterr().out


@pytest.mark.parametrize("targets", [None, "", "imagenet", "cifar100,nothing:x"])
def test_unknown_targets_are_refused(targets):
    with pytest.raises(ValueError, match="`targets` must be of cifar10, cifar100, folder, patterns"):
        Transfer(targets=targets)
