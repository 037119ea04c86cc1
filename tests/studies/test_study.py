import re

import pytest

from simclr_tf.config import Config
from simclr_tf.studies import STUDIES, settings
from simclr_tf.studies.figures import SIZES
from simclr_tf.studies.runs import plan
from simclr_tf.studies.study import MEASURES, Times, grid, multiples, values


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_cell_is_a_run_of_its_own(name, tmp_path):
    """Legal settings, with a folder that no other cell has and settings that no other cell has."""
    study = STUDIES[name]
    runs = plan(study, {}, tmp_path, seeds=2)
    assert len(runs) == 2 * len(study.cells) > 2
    assert len({run.folder for run in runs}) == len(runs)
    assert len({repr(run.config) for run in runs}) == len(runs)
    assert all(len(run.cell.labels) == len(study.axes) for run in runs)
    assert all(re.fullmatch(r"[\w.]+-seed[01]", run.folder.name) for run in runs)


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"batch_epochs"}))
def test_the_papers_numbers_are_beside_cells(name):
    study = STUDIES[name]
    cells = {cell.of(Config()).labels for cell in study.cells}
    assert set(study.paper) <= cells
    assert bool(study.paper) == bool(study.source)
    assert all(len(numbers) == len(study.measures) for numbers in study.paper.values())
    assert set(study.measures) <= set(MEASURES) and study.measures[-1] == "top1"
    assert study.figure in SIZES


@pytest.mark.parametrize(("flags", "beside"), [({"epochs": 400}, 12), ({"batch_size": 256, "epochs": 400}, 6), ({}, 0)])
def test_the_papers_batches_and_epochs_are_beside_the_same(flags, beside, tmp_path):
    study = STUDIES["batch_epochs"]
    paper = study.beside(run.cell.labels for run in plan(study, flags, tmp_path))
    assert len(paper) == beside
    assert paper.get(("512", "200"), (64.0,)) == (64.0,)


def test_rows_of_figure_5_have_the_papers_averages():
    """The figure prints each row's average, which tells a misread number."""
    paper = STUDIES["augmentation_pairs"].paper
    averages = {"crop": 39.2, "cutout": 29.4, "color": 25.7, "sobel": 18.8, "noise": 15.5, "blur": 14.5, "rotate": 13.8}
    for first, average in averages.items():
        row = [top1 for (name, _), (top1,) in paper.items() if name == first]
        assert len(row) == 7 and sum(row) / 7 == pytest.approx(average, abs=0.06)


def test_grid_is_the_product():
    cells = grid(values("loss", "nt_xent", "decoupled"), values("temperature", 0.5, 10))
    assert [cell.labels for cell in cells] == [
        ("nt_xent", "0.5"), ("nt_xent", "10"), ("decoupled", "0.5"), ("decoupled", "10")
    ]  # fmt: skip
    assert cells[1].flags == {"loss": "nt_xent", "temperature": 10}


def test_multiples_follow_the_command_line():
    (cell,) = grid(multiples("batch_size", 1 / 4), multiples("width", 2))
    ours = cell.of(settings.config_of({"batch_size": 130, "width": 0.25}))
    assert ours.flags == {"batch_size": 32, "width": 0.5} and ours.labels == ("32", "0.5")
    assert Times("epochs", 0.001).of(settings.config_of({"epochs": 10})) == 1
