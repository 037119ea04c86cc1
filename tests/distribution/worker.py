"""train.py, as one of several workers, with its weights at the end written to $WEIGHTS/<worker>.npz.

With KILL=<worker>:<step>, that worker ends as if by a power cut after so many steps.
"""

import json
import os
import runpy
import signal
from pathlib import Path

import simclr_tf.quiet  # noqa: F401

# isort: split
import keras
import numpy as np

from simclr_tf import pretraining
from simclr_tf.training.checkpoints import collect

INDEX = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
VICTIM, STEP = map(int, os.environ.get("KILL", "-1:0").split(":"))
fit = pretraining._fit


class PowerCut(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if INDEX == VICTIM and self.model.optimizer.iterations.numpy() == STEP:
            Path(os.environ["WEIGHTS"]).with_suffix(".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def fit_and_write(model, config, plan, train, validation, callbacks):
    fit(model, config, plan, train, validation, [*callbacks, PowerCut()])
    np.savez(Path(os.environ["WEIGHTS"], f"{INDEX}.npz"), **{f"w/{k}": v for k, v in collect(model.weights).items()})


pretraining._fit = fit_and_write
runpy.run_path("train.py", run_name="__main__")
