"""Readers of files that may come from anyone: each takes the bytes of one, and returns or raises a clear ValueError."""

import io
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_tf.config import Config
from simclr_tf.data import cifar
from simclr_tf.data.manifest import look
from simclr_tf.training import checkpoints, metrics

BINARY, PYTHON = cifar._VERSIONS["cifar10"]


def cifar_binary(content: bytes) -> None:
    """A batch of CIFAR's binary version."""
    cifar._parse(content, BINARY, "batch")


def cifar_python(content: bytes) -> None:
    """A batch of CIFAR's Python version, which is a pickle."""
    cifar._parse(content, PYTHON, "batch")


def image(content: bytes) -> None:
    """An image file; what is wrong with it is a line."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(content)
        file.flush()
        fault = look(file.name)
        if isinstance(fault, str) and ("\n" in fault or not fault):
            raise RuntimeError(f"not a line: {fault!r}")


def checkpoint(content: bytes) -> None:
    """A checkpoint: the values that were saved, or none."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "epoch-00001.npz").write_bytes(content)
        found = checkpoints.newest(Path(name))
        if found is None or any((found.variables[key] != array).any() for key, array in ARRAYS.items()):
            raise RuntimeError("other values than those that were saved")


def config(content: bytes) -> None:
    """A config.json."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        Config.load(file.name)


def table(content: bytes) -> None:
    """A metrics.csv."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        metrics.read_rows(Path(file.name))


ARRAYS = {"encoder/kernel": np.arange(12.0).reshape(3, 4), "step": np.array(7)}
READERS = {reader.__name__: reader for reader in (cifar_binary, cifar_python, image, checkpoint, config, table)}


def valid(name: str) -> bytes:
    """A file that the reader takes."""
    if name == "cifar_binary":
        return bytes([3]) + bytes(range(256)) * 12 + bytes([9]) + bytes(3072)
    if name == "cifar_python":
        return pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [3, 9]}, protocol=2)
    if name == "image":
        file = io.BytesIO()
        Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(file, "PNG")
        return file.getvalue()
    if name == "checkpoint":
        with tempfile.TemporaryDirectory() as folder_name:
            return checkpoints.save(Path(folder_name), checkpoints.Position(1), ARRAYS, {"step": 7}).read_bytes()
    if name == "config":
        return json.dumps(Config().to_dict()).encode()
    return b"epoch,step,loss,learning_rate,images_per_second\n1,3,0.5,0.1,\n2,6,0.25,0.1,123.4\n"


def read(name: str, content: bytes) -> bool:
    """Whether a reader took the bytes; whatever it raises must be a ValueError of one line or more words."""
    try:
        READERS[name](content)
    except ValueError as error:
        if "Received: " not in str(error):
            raise RuntimeError(f"not clear: {error!r}") from error
        return False
    return True
