"""Runs the examples of docs/extending.md, in order, and the tests among them."""

import re

import pytest

from simclr_tf.objectives import LOSSES, SIMILARITIES
from simclr_tf.studies import STUDIES
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = [(registry, dict(registry)) for registry in (LOSSES, SIMILARITIES, STUDIES)]
    names: dict = {}
    try:
        for block in BLOCKS:
            if match := re.match(r"# (\w+\.py)\n", block):
                (tmp_path / match[1]).write_text(block)
            else:
                exec(compile(block, "docs/extending.md", "exec"), names)
        tests = [value for name, value in names.items() if name.startswith("test_")]
        for test in tests:
            test()
        assert all(set(registry) > set(rows) for registry, rows in before)
    finally:
        for registry, rows in before:
            registry.clear()
            registry.update(rows)
    assert len(tests) == 4


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:simclr_tf|tests)/[\w/]+\.py)`", TEXT))))
def test_files_that_the_text_names_exist(path):
    assert (ROOT / path).is_file()
