"""The report on a tiny run, and on the same run collapsed."""

import importlib.util
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from simclr_tf.evaluation import evaluate
from simclr_tf.training import checkpoints

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def without_umap():
    """t-SNE draws the map: UMAP has to be compiled first, which takes half a minute."""
    find = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else find(name))
        yield


@pytest.fixture(scope="module")
def report(tiny_run, without_umap):
    return evaluate(tiny_run, "report", sample=100), tiny_run / "evaluation" / "report.html"


@pytest.mark.slow  # and first, since `without_umap` lasts to the end of the module
def test_umap_draws_the_map_where_it_is_installed(tiny_run):
    pytest.importorskip("umap")
    evaluate(tiny_run, "report", sample=100)
    assert "Map of h (UMAP)" in (tiny_run / "evaluation" / "report.html").read_text()


def test_a_run_of_one_step_is_untrained(report):
    record, page = report
    assert record["verdict"] == "untrained" and record["images"] == 100
    assert json.loads((page.parent / "report.json").read_text()) == record


def test_the_page_is_one_file(report):
    record, page = report
    text = page.read_text()
    assert record["advice"].split("`")[0] in text and text.count('src="data:image/png;base64,') == 7
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "--encoder=tests.tiny:encoder" in text and "tensorflow" in text
    assert page.stat().st_size < 2**21


def test_photographs_that_have_moved_are_found(tiny_run, without_umap, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    settings = json.loads((tiny_run / "config.json").read_text())
    settings["data"] |= {"dataset": "folder", "data_dir": str(tmp_path / "gone"), "image_size": 32}
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    rng = np.random.default_rng(0)
    for number in range(30):
        place = tmp_path / "photos" / ("train" if number % 2 else "test") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(place)
    record = evaluate(tmp_path / "run", "report", data_dir=str(tmp_path / "photos"))
    assert record["images"] == 15  # those to test on


def test_a_collapsed_run_is_told(tiny_run, without_umap, tmp_path):
    """One in which every image has the same representation, whatever the weights before the last layer."""
    run = tmp_path / "<b>run"  # which is escaped in the page
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("evaluation"))
    saved = checkpoints.newest(run / "checkpoints")
    rng, variables = np.random.default_rng(0), dict(saved.variables)
    for path, value in variables.items():
        if re.search(r"_bn/gamma", path) and "head" not in path:
            variables[path] = 1e-4 * value
        if re.search(r"_bn/beta", path):
            variables[path] = rng.uniform(0.5, 1, value.shape).astype(value.dtype)
    checkpoints.save(run / "checkpoints", saved.position, variables, saved.meta)
    record = evaluate(run, "report", sample=100)
    page = (run / "evaluation" / "report.html").read_text()
    assert "&lt;b&gt;run" in page and "<b>run" not in page
    assert record["verdict"] == "collapsed" and "lower `learning_rate=" in record["advice"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser(report, tmp_path, width):
    _, page = report
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},4000"]
    dump = [CHROMIUM, *flags, "--dump-dom", page.as_uri()]
    dom = subprocess.run(dump, capture_output=True, text=True, timeout=120).stdout
    assert "untrained" in dom and "</html>" in dom
    subprocess.run([CHROMIUM, *flags, f"--screenshot={picture}", page.as_uri()], check=True, timeout=120)
    assert picture.stat().st_size > 20_000
