"""Imports TensorFlow without its startup messages, so that a user's first run shows the run and not the noise.

It also turns on oneDNN's kernels, which TensorFlow leaves off on CPUs without AVX-512; a step is twice as fast there, too.

The entry points import this module before anything that needs TensorFlow. Its C++ code writes some messages before its log
level can be set, and some at the level of errors. So standard error is held back while they are written; afterwards, all
lines that are not known noise are shown. TF_CPP_MIN_LOG_LEVEL=0 shows everything.
"""

import os
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = re.compile(
    r"All log messages before absl::InitializeLog|oneDNN custom operations|Could not find cuda drivers"
    r"|This TensorFlow binary is optimized|To enable the following instructions|failed call to cuInit"
    r"|computation_placer already registered|Unable to register cu|TF-TRT Warning|oneDNN supports DT_"
    r"|TensorFlow Lite XNNPACK delegate|^fully_quantize: "
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Holds standard error back, at the level of the process, and then shows the lines that are not known noise."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not NOISE.search(line)))


def expect_float16() -> None:
    """Triggers TensorFlow's "oneDNN supports DT_HALF only ...", which it writes once per process, where it is hidden.

    The message comes with the first float16 product on a CPU without such instructions. Call this before a network in
    mixed_float16 is built, and after the devices are configured, because it initializes them.
    """
    with without_noise():
        tf.linalg.matmul(*[tf.zeros([1, 1], tf.float16)] * 2)


os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.filterwarnings("ignore", message="IProgress not found")  # Keras-CV's tqdm wants widgets in a notebook
with without_noise():
    import tensorflow as tf

    tf.get_logger().setLevel("WARNING")  # it logs what it saves and where
    # A process that trains several models, or at several resolutions, traces several functions of the same name.
    tf.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())
    tf.config.list_physical_devices()  # looks for GPUs, and complains if there is no driver
