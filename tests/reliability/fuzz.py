"""Looks for bytes with which a reader fails otherwise than by a clear ValueError; needs `pip install atheris`.

python -m tests.reliability.fuzz cifar_python -max_total_time=60
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["simclr_tf.data", "simclr_tf.config", "simclr_tf.training"]):
    from tests.reliability.readers import read, valid

if __name__ == "__main__":
    name = sys.argv.pop(1)
    corpus = Path(tempfile.mkdtemp())
    (corpus / "valid").write_bytes(valid(name))
    atheris.Setup([*sys.argv, str(corpus)], lambda content: read(name, content))
    atheris.Fuzz()
