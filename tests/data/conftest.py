"""Fixtures of the tests of records: a folder of photographs, and its shards."""

import numpy as np
import pytest
from PIL import Image

from simclr_tf.data.convert import convert


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """Three classes, whose names sort otherwise than their paths; photographs of several sizes, one of them turned."""
    rng, number = np.random.default_rng(0), 0
    for split, count in (("train", 7), ("test", 3)):
        for name in ("ant", "ant-lion", "bee"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (20 + number % 5, 24, 3), np.uint8)
                number += 1
                exif = Image.Exif()
                exif[0x112] = 6 if index == 2 else 1
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{index}.jpg", exif=exif)
    return tmp_path / "images"


@pytest.fixture
def shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_tf.data.convert.MEBIBYTE", 2**13)  # so that a few kilobytes make several shards
    convert(folder, tmp_path / "records", shard_mib=1)
    return tmp_path / "records"
