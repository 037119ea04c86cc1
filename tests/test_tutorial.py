"""Runs docs/tutorial.ipynb from top to bottom."""

import pytest

from tests.conftest import ROOT

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def test_the_tutorial_is_small_and_keeps_its_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert NOTEBOOK.stat().st_size < 1_000_000
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 2  # imports and embedding print nothing
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shares = "".join(output["text"] for output in notebook.cells[-2].outputs)
    assert shares.count("%") == 10
