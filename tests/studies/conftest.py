import dataclasses
import json

import pytest

from simclr_tf.config import Config
from simclr_tf.studies import ASKED
from simclr_tf.training import metrics

MEASURES = ("loss", "val_loss", "contrastive_accuracy", "contrastive_entropy")


@pytest.fixture
def finish():
    """Leaves in a trial's folder what a finished one leaves there, as far as studies look at it."""

    def write(trial, top1=0.5, accuracy=0.25, entropy=3.0, top5=0.9, validation=0.5):
        trial.record.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "top1": top1,
            "top5": top5,
            "encoder_parameters": 10**6,
            "hyper_parameters": {"validation_top1": {"0.1": validation / 2, "1": validation}},
        }
        everywhere = {"guess": top1, "h": top1, "g(h)": top1, "linear": {"top1": top1}, "finetune": {"top1": top1}}
        record |= {"linear": {"top1": top1}} | {
            kind: dict.fromkeys((*ASKED, *trial.labels), everywhere) for kind in ("questions", "targets")
        }
        config = Config.of(**trial.settings)
        (trial.folder / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
        columns = (*metrics.FIRST, *MEASURES, *metrics.LAST)
        row = dict.fromkeys(columns, 1.0)
        row |= {
            "epoch": config.training.epochs,
            "step": 4,
            "contrastive_accuracy": accuracy,
            "contrastive_entropy": entropy,
        }
        metrics.write_rows(trial.folder / "metrics.csv", columns, [row])
        trial.record.write_text(json.dumps(record))  # after the training

    return write
