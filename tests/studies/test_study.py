import re

import pytest

from simclr_tf.config import Config
from simclr_tf.studies import STUDIES, transfer
from simclr_tf.studies.study import (
    MEASURES,
    Judgment,
    Study,
    Times,
    Tuned,
    chosen,
    grid,
    multiples,
    plan,
    tuned,
    values,
)

# The settings that the study of the recipe undoes.
RECIPE = {"loss": "decoupled", "temperature": 0.1, "projection_width": 1024, "crop_area": 0.2, "gray_probability": 0.1,
          "learning_rate": 4.0, "resolutions": "16,32", "precision": "mixed_bfloat16", "batch_size": 256}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_cell_is_a_run_of_its_own(name, tmp_path):
    """Legal settings, with a folder that no other cell has and settings that no other cell has."""
    study = STUDIES[name]
    trials = plan(study, RECIPE if name == "recipe" else {}, tmp_path, seeds=2)
    again = [cell for cell in study.cells.values() if not any(isinstance(value, Tuned) for value in cell.values())]
    ways = len(study.judgments) or 1
    assert len(trials) >= ways * (len(study.cells) + len(again)) >= 2
    runs = {trial.folder for trial in trials}
    assert len(runs) == len(trials) / ways == len({repr(Config.of(**trial.settings)) for trial in trials})
    assert len({(trial.folder, trial.labels) for trial in trials}) == len(trials)
    assert all(len(trial.labels) == len(study.axes) for trial in trials)
    assert all(re.fullmatch(r"[\w.]+-seed[01]", trial.folder.name) for trial in trials)


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"batch_epochs"}))
def test_the_papers_numbers_are_beside_cells(name):
    study = STUDIES[name]
    cells = {(*how, *labels) for how in study.judgments or {()} for labels in study.cells_of(Config())}
    assert set(study.paper) <= cells
    assert bool(study.paper) == bool(study.source)
    assert all(len(numbers) == len(study.measures) for numbers in study.paper.values())
    assert set(study.measures) <= set(MEASURES) and study.measures[-1] in ("top1", "validation_top1")
    assert study.figure in ("bars", "heatmap", "parameters")


@pytest.mark.parametrize(("flags", "beside"), [({"epochs": 400}, 12), ({"batch_size": 256, "epochs": 400}, 6), ({}, 0)])
def test_the_papers_batches_and_epochs_are_beside_the_same(flags, beside, tmp_path):
    study = STUDIES["batch_epochs"]
    paper = {trial.labels: study.paper.get(trial.labels) for trial in plan(study, flags, tmp_path)}
    assert sum(top1 is not None for top1 in paper.values()) == beside
    assert paper.get(("512", "200"), (64.0,)) == (64.0,)


def test_rows_of_figure_5_have_the_papers_averages():
    """The figure prints each row's average, which tells a misread number."""
    paper = STUDIES["augmentation_pairs"].paper
    averages = {"crop": 39.2, "cutout": 29.4, "color": 25.7, "sobel": 18.8, "noise": 15.5, "blur": 14.5, "rotate": 13.8}
    for first, average in averages.items():
        row = [top1 for (name, _), (top1,) in paper.items() if name == first]
        assert len(row) == 7 and sum(row) / 7 == pytest.approx(average, abs=0.06)


def cells_of(cells, **given):
    """The cells of a study of two axes."""
    return Study("title", "question", ("first", "second"), cells).cells_of(Config.of(**given))


def test_grid_is_the_product():
    assert cells_of(grid(values("loss", "nt_xent", "decoupled"), values("temperature", 0.5, 10))) == {
        ("nt_xent", "0.5"): {"loss": "nt_xent", "temperature": 0.5},
        ("nt_xent", "10"): {"loss": "nt_xent", "temperature": 10},
        ("decoupled", "0.5"): {"loss": "decoupled", "temperature": 0.5},
        ("decoupled", "10"): {"loss": "decoupled", "temperature": 10},
    }


def test_multiples_follow_the_command_line():
    cells = cells_of(grid(multiples("batch_size", 1 / 4), multiples("width", 2)), batch_size=130, width=0.25)
    assert cells == {("32", "0.5"): {"batch_size": 32, "width": 0.5}}
    assert cells_of({("few",): {"epochs": Times("epochs", 0.001)}}, epochs=10) == {("few",): {"epochs": 1}}


LOSSES = Study(
    "title", "question", ("loss",), tuned(grid(values("loss", "nt_xent", "decoupled")), temperature=(0.1, 0.5))
    | {("margin_triplet",): {"loss": "margin_triplet"}},
)  # fmt: skip


def test_tuned_settings_are_tried_with_the_first_seed_and_the_best_goes_on(tmp_path, finish):
    trials = plan(LOSSES, {"temperature": 0.3}, tmp_path, seeds=3)
    # Two choices for two cells, and all seeds of the cell that has nothing to tune.
    assert [(*t.labels, t.choice.get("temperature"), t.settings["seed"]) for t in trials] == [
        ("nt_xent", 0.1, 0), ("nt_xent", 0.5, 0), ("decoupled", 0.1, 0), ("decoupled", 0.5, 0),
        ("margin_triplet", None, 0), ("margin_triplet", None, 1), ("margin_triplet", None, 2),
    ]  # fmt: skip
    assert len({t.folder for t in trials}) == 7
    # Better on the test images, worse on the validation images.
    finish(trials[0], top1=0.9, validation=0.5)
    assert chosen(trials)[0] == trials[0]  # the best so far
    assert plan(LOSSES, {"temperature": 0.3}, tmp_path, seeds=3) == trials
    finish(trials[1], top1=0.4, validation=0.6)
    finish(trials[2], validation=0.7)
    trials = plan(LOSSES, {"temperature": 0.3}, tmp_path, seeds=3)
    later = [t for t in trials if t.labels == ("nt_xent",) and t.settings["seed"]]
    assert [(t.settings["temperature"], t.settings["seed"]) for t in later] == [(0.5, 1), (0.5, 2)]
    assert [t.choice for t in chosen(trials) if t.labels == ("nt_xent",)] == [{"temperature": 0.5}] * 3
    assert not any(t.settings["seed"] for t in trials if t.labels == ("decoupled",))
    assert str(later[0]) == "nt_xent, temperature 0.5, seed 1"
    trials[3].folder.mkdir()
    (trials[3].folder / "divergence.json").touch()
    later = [t for t in plan(LOSSES, {"temperature": 0.3}, tmp_path, seeds=3) if t.labels == ("decoupled",)][2:]
    assert [(t.settings["temperature"], t.settings["seed"]) for t in later] == [(0.1, 1), (0.1, 2)]


@pytest.mark.parametrize("study", [LOSSES, STUDIES["recipe"]])
def test_what_looks_at_validation_images_needs_a_mode_that_has_some(tmp_path, study):
    assert plan(study, {}, tmp_path, mode="linear_sgd")
    with pytest.raises(ValueError, match="`mode=linear` and `mode=linear_sgd` do. Received: `mode=knn`"):
        plan(study, {}, tmp_path, mode="knn")


def test_tuned_multiples_follow_the_command_line(tmp_path):
    study = Study("title", "question", ("a",), tuned({("one",): {}}, learning_rate=(Times("learning_rate", 2), 1.0)))
    assert [t.settings["learning_rate"] for t in plan(study, {"learning_rate": 3.0}, tmp_path)] == [6.0, 1.0]


JUDGED = Study(
    "title", "question", ("method", "loss"), grid(values("loss", "nt_xent", "decoupled")),
    judgments={("probe",): Judgment("linear"),
               ("few labels",): Judgment("finetune", {"label_fraction": 0.1}, ("linear", "top1"))},
)  # fmt: skip


def test_ways_to_judge_share_a_run(tmp_path, finish):
    trials = plan(JUDGED, {"seed": 3}, tmp_path, seeds=2)
    assert [trial.labels for trial in trials[:4]] == [
        ("probe", "nt_xent"), ("few labels", "nt_xent"), ("probe", "decoupled"), ("few labels", "decoupled"),
    ]  # fmt: skip
    assert trials[0].folder == trials[1].folder == tmp_path / "nt_xent-seed3"
    assert trials[1].record == tmp_path / "nt_xent-seed3" / "evaluation" / "finetune-0.1-seed3" / "finetune.json"
    assert trials[5].judgment.settings == {"label_fraction": 0.1, "seed": 4}  # other images, another start
    on_one = plan(JUDGED, {"strategy": "single"}, tmp_path / "one")  # of several GPUs
    assert on_one[1].judgment.settings["strategy"] == "single" and "strategy" not in on_one[0].judgment.settings
    finish(trials[0], top1=0.8)
    assert (trials[0].state(), trials[1].state()) == ("done", "begun")
    finish(trials[1], top1=0.4)
    assert trials[0].measures()["top1"] == 80 and trials[1].measures()["top1"] == 40
    assert [t.labels for t in plan(JUDGED, {}, tmp_path / "a", only=["probe", "nt_xent"])] == [("probe", "nt_xent")]


def test_a_study_that_says_how_to_judge_takes_no_mode(tmp_path):
    with pytest.raises(ValueError, match="judges by linear, finetune: leave `mode` out. Received: `mode=knn`"):
        plan(JUDGED, {}, tmp_path, mode="knn")


def test_transfer_is_judged_on_the_targets_that_are_named(tmp_path):
    study = transfer(["cifar100:/data", "folder:pets"])
    trials = plan(study, {}, tmp_path)
    assert len(trials) == 6 and len({trial.folder for trial in trials}) == 1
    assert study.paper["fine-tuned", "cifar100:/data"] == (89.0,) and len(study.paper) == 3
    scratch = [trial.judgment.settings for trial in trials if trial.judgment.mode == "supervised"]
    assert scratch[0] == {"dataset": "cifar100", "data_dir": "/data", "seed": 0}
    # Where `supervised` writes what it was asked on other data: not beside that of the run's own.
    records = [str(trial.record.relative_to(trial.folder / "evaluation")) for trial in trials[:3]]
    assert records[:2] == ["transfer.json"] * 2
    assert re.fullmatch(r"cifar100-\w{6}/supervised-1-seed0/supervised.json", records[2])
    with pytest.raises(ValueError, match="`targets` must be of .*Received: pets"):
        transfer(["pets"])


def test_a_name_with_a_colon_is_a_target(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    trials = plan(transfer(["tfds:mnist", "folder:~/pets"]), {}, tmp_path)
    mnist, pets = (trial for trial in trials if trial.labels[0] == "from scratch")
    assert mnist.judgment.settings == {"dataset": "tfds:mnist", "seed": 0}
    assert pets.judgment.settings == {"dataset": "folder", "data_dir": "/home/someone/pets", "seed": 0}
    assert mnist.record.parent.parent == tmp_path / "run-seed0" / "evaluation" / "tfds_mnist"


def test_a_transfer_to_other_targets_is_not_done(tmp_path, finish):
    done, other = (plan(transfer([target]), {}, tmp_path)[0] for target in ("cifar100", "folder:pets"))
    finish(done)
    assert done.record == other.record and (done.state(), other.state()) == ("done", "begun")
