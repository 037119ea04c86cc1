"""Runs the examples of docs/library.md, in order, in a folder of their own."""

import re

import pytest

from tests.conftest import ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "library.md").read_text(), flags=re.DOTALL | re.MULTILINE
)
TRAINING = 20  # lines that pretraining one's own model takes, about


def test_pretraining_takes_about_twenty_lines():
    lines = [line for line in BLOCKS[0].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= TRAINING


@pytest.mark.slow
def test_the_examples_run_and_pretraining_helps(run_python, tmp_path):
    path = tmp_path / "page.py"
    path.write_text(f"import os; os.chdir({str(tmp_path)!r})\n" + "\n".join(BLOCKS))
    result = run_python(path)
    assert result.returncode == 0 and "Warning" not in result.stderr, result.stderr
    pretrained, random = map(
        int, re.search(r"digits: (\d+)%, at random initialization: (\d+)%", result.stdout).groups()
    )
    assert pretrained > random + 10
    assert "of 1000 test images, 32 dimensions" in result.stdout
    assert (tmp_path / "run" / "encoder" / "saved_model.pb").exists()
