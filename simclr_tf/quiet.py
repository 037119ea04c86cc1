"""Imports TensorFlow without its start-up notes: a user's first run shows the run, not the noise.

The entry points import this module before anything that needs TensorFlow. The notes are written by C++ code before its
log level can be set, so standard error is held back during the import; lines that are no known noise are shown
afterwards, and all of them when TF_CPP_MIN_LOG_LEVEL=0 is set.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = re.compile(
    r"All log messages before absl::InitializeLog|oneDNN custom operations|Could not find cuda drivers"
    r"|This TensorFlow binary is optimized|To enable the following instructions|failed call to cuInit"
    r"|computation_placer already registered|Unable to register cu|TF-TRT Warning"
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Holds standard error back, at the level of the process, and then shows what is no known noise."""
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


def _import() -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for GPUs, and complains where there is no driver


os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
    _import()
else:
    with without_noise():
        _import()
