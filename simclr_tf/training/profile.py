"""Where the time of a step goes: a trace for TensorBoard, and its kernels in words."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from simclr_tf._compat import XSpace

WARM_UP, STEPS = 5, 10  # steps of the process that are left out, as the first one compiles, and steps that are traced
# What a kernel does, and a pattern for its name in TensorFlow. The first match counts.
KINDS = {
    "weight gradients of convolutions": "Conv.*BackpropFilter|weight_gradient",
    "input gradients of convolutions": "Conv.*BackpropInput",
    "convolutions": "Conv",
    "batch norm": "BatchNorm",
    "matrix products": "MatMul",
    "augmentation and the rest that XLA compiles": "ExecuteAsyncOnStream|Xla",
    "exchange between replicas": "Collective|AllReduce",
    "waiting for images": "IteratorGetNext",
    "updates of variables": "Assign|ResourceApply",
    "everything else": "",
}


class Profile(keras.callbacks.Callback):
    """Traces some steps, once the first ones are over, and prints what they consisted of.

    Args:
        folder: Folder of the run; the trace is in `tensorboard/`, for TensorBoard's profile plugin.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self._logs, self._step, self._start = folder / "tensorboard", 0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the trace."""
        if self._step == WARM_UP:
            tf.profiler.experimental.start(str(self._logs))
            self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Ends it."""
        self._step += 1
        if self._step == WARM_UP + STEPS:
            self._end()

    def on_test_begin(self, logs=None):
        """Ends it with the epoch: what follows is no step."""
        if WARM_UP < self._step < WARM_UP + STEPS:
            self._end()

    def on_epoch_end(self, epoch, logs=None):
        """As `on_test_begin`, where there is no validation."""
        self.on_test_begin()

    def finish(self) -> None:
        """Says so if the run was too short. Not `on_train_end`: a continued run may call `fit` more than once."""
        if self._step <= WARM_UP:
            print(f"note     profile: nothing was traced, since the run had {self._step} steps; it takes {WARM_UP + 1}")

    def _end(self) -> None:
        seconds = (time.perf_counter() - self._start) / (self._step - WARM_UP)
        tf.profiler.experimental.stop()
        trace = max(self._logs.glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        space = XSpace()
        space.ParseFromString(trace.read_bytes())
        events = [
            (plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e12)
            for plane in space.planes
            if plane.name == "/host:CPU"
            for line in plane.lines
            for event in line.events
        ]
        print(f"profile  {seconds:.3f} s a step; {in_words(events)}; the trace is {trace}", flush=True)
        self._step = WARM_UP + STEPS


def in_words(events: Iterable[tuple[str, float]]) -> str:
    """The parts of the kernels' time by kind, from the names of events on the CPU and their seconds."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, seconds in events:
        # Kernels are called `path:Kernel`; what has `::` in its name is a function of TensorFlow that calls them.
        # Gradients of weights may be convolutions like others, told by their scope (`networks/convolution.py`).
        kernel = "weight_gradient" if "weight_gradient" in name else name.rpartition(":")[2]
        if re.fullmatch(r"[^:]+:\w+", name) or kernel == "ExecuteAsyncOnStream":
            found[next(kind for kind, pattern in KINDS.items() if re.search(pattern, kernel))] += seconds
    total = sum(found.values())
    if not total:
        return "no kernels ran on the CPU"
    return "of the kernels on the CPU, " + ", ".join(
        f"{kind} {seconds / total:.0%}"
        for kind, seconds in sorted(found.items(), key=lambda pair: -pair[1])
        if seconds >= 0.005 * total
    ).replace("%", " %")
