"""train.py as one of several workers; it writes the weights at the end to $WEIGHTS/<worker>.npz.

With KILL=<worker>:<step>, that worker dies after that step, as if by a power cut.
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

from simclr_tf.tasks.simclr import SimCLR
from simclr_tf.training.checkpoints import collect

INDEX = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
VICTIM, STEP = map(int, os.environ.get("KILL", "-1:0").split(":"))


class PowerCut(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if INDEX == VICTIM and self.model.optimizer.iterations.numpy() == STEP:
            Path(os.environ["WEIGHTS"]).with_suffix(".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def fit_and_write(model, *args, callbacks, **settings):
    keras.Model.fit(model, *args, callbacks=[*callbacks, PowerCut()], **settings)
    np.savez(Path(os.environ["WEIGHTS"], f"{INDEX}.npz"), **{f"w/{k}": v for k, v in collect(model.weights).items()})


SimCLR.fit = fit_and_write
runpy.run_path("train.py", run_name="__main__")
