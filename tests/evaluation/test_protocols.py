"""The registry of protocols, and where the results of each go."""

import importlib
import json
import re
import shutil

import pytest

from simclr_tf.config import MODES, Config, Data, Export, Linear
from simclr_tf.encoders import load_encoder, weights_digest
from simclr_tf.evaluation import PROTOCOLS, evaluate
from simclr_tf.evaluation.probing import open_data
from simclr_tf.places import data_source, name_of, results_folder
from simclr_tf.preflight import check_evaluation
from simclr_tf.training import checkpoints, metrics, run_folder
from simclr_tf.training.checkpoints import Position


def test_every_mode_has_a_protocol_that_runs_and_every_protocol_a_mode():
    assert set(PROTOCOLS) == set(MODES)
    for place in PROTOCOLS.values():
        module, function = place.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`mode` must be one of .*knn .*linear .*Received: svm"):
        evaluate(tmp_path, "svm")


def test_two_folders_of_one_name_have_two_result_folders(tmp_path):
    own = Data(dataset="folder", data_dir=str(tmp_path / "a" / "photos"), image_size=8)
    folders = {
        results_folder(tmp_path, 0, ("folder", str(tmp_path / parent / "photos")), own) for parent in ("a", "b", "c")
    }
    assert len(folders) == 3 and tmp_path / "evaluation" in folders  # the run's own
    assert all(folder.name.startswith("photos-") for folder in folders - {tmp_path / "evaluation"})
    again = results_folder(tmp_path, 0, ("folder", str(tmp_path / "b" / ".." / "b" / "photos")), own)
    assert again in folders


def test_other_data_of_the_same_name_has_a_folder_of_its_own(tmp_path):
    own = Data(dataset="cifar10", data_dir=str(tmp_path / "fifth"))
    found = [
        results_folder(tmp_path, 0, ("cifar10", str(tmp_path / name)), own) for name in ("fifth", "x/../fifth", "all")
    ]
    assert found[:2] == [tmp_path / "evaluation"] * 2 and found[2].name.startswith("cifar10-")
    assert results_folder(tmp_path, 0, ("cifar10", str(tmp_path / "all")), Data()) == tmp_path / "evaluation"


def test_results_of_another_layer_or_data_set_have_a_folder_of_their_own(tmp_path):
    own = Data(dataset="cifar10")
    cases = ((0, "cifar10"), (2, "cifar10"), (0, "patterns"), (2, "patterns"))
    folders = [results_folder(tmp_path, layer, (name, None), own) for layer, name in cases]
    names = ["", "layer2", "patterns", "layer2/patterns"]
    assert folders == [tmp_path / "evaluation" / name for name in names]


def test_no_two_data_sets_share_a_name(tmp_path):
    for parent in ("sets_a", "sets/a"):
        (tmp_path / parent).mkdir(parents=True)
    names = [name_of(*each) for each in [
        ("folder", f"{tmp_path}/sets_a"), ("folder", f"{tmp_path}/sets/a"), ("records:a/train-*", None), ("cifar10", None),
        ("records:b/train-*", None), ("cifar10", "a"), ("cifar10", "b"), ("cifar100", "a"), ("tfds:a/b", None),
    ]]  # fmt: skip
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w.*-]+", name) for name in names)
    own = Data(dataset="patterns")
    assert len({results_folder(tmp_path, 0, ("cifar10", place), own) for place in ("a", "b", None)}) == 3


def test_the_folder_of_the_images_that_were_learned_from_goes_with_their_name():
    learned = Data(dataset="cifar10", data_dir="/d", judge_dataset="patterns")
    assert data_source(Linear(), learned) == ("patterns", None)
    assert data_source(Linear(dataset="cifar10"), learned) == ("cifar10", "/d")
    assert data_source(Linear(dataset="cifar10", data_dir="/e"), learned) == ("cifar10", "/e")
    assert data_source(Linear(dataset="cifar100"), learned) == ("cifar100", None)


@pytest.fixture
def of_photographs(tiny_run, tmp_path):
    """A function that gives `tiny_run` as one on photographs that are gone, of some size."""

    def make(side):
        settings = json.loads((tiny_run / "config.json").read_text())
        settings["data"] |= {"dataset": "folder", "data_dir": str(tmp_path / "gone"), "image_size": side}
        shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "features"))
        (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
        return tmp_path / "run"

    return make


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("finetune", {"dataset": "patterns"}), ("knn", {"dataset": "patterns"}), ("transfer", {"targets": "patterns"})],
)
def test_images_of_another_size_are_refused_before_anything_is_done(of_photographs, mode, settings):
    with pytest.raises(ValueError, match="takes images of 48 x 48 pixels; those of patterns have 32 x 32"):
        check_evaluation(of_photographs(48), mode, settings)


def test_modes_that_look_at_the_images_of_the_run_find_them_where_they_are_now(of_photographs, tmp_path):
    run = of_photographs(32)
    for mode, settings in (("report", {}), ("export", {"format": "litert"})):
        with pytest.raises(ValueError, match="`data_dir` must be a folder of images. Received: '.*/gone'"):
            check_evaluation(run, mode, settings)
        check_evaluation(run, mode, settings | {"data_dir": str(tmp_path)})
    check_evaluation(run, "export", {})  # which looks at none


def test_images_that_are_others_than_the_run_learned_from_are_noted(tiny_run, capsys):
    config = Config.load(tiny_run / "config.json")
    open_data("patterns", None, config, tiny_run)
    assert capsys.readouterr().out == ""
    fewer = config.replace("data", train_fraction=0.5)
    open_data("patterns", None, fewer, tiny_run)
    assert re.fullmatch(
        "note: the run learned from 4500 other images than the 2250 .* seen those to judge on\n",
        capsys.readouterr().out,
    )


def test_a_format_that_is_compared_with_nothing_takes_no_images():
    with pytest.raises(ValueError, match="`data_dir` goes with litert and litert_int8. Received: `format=onnx`"):
        Export(format="onnx", data_dir="photos")


def test_a_target_that_is_not_there_is_refused_before_the_first(tiny_run, tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(
        ValueError, match=f"`data_dir` must be a folder of images. Received: '{re.escape(str(missing))}'"
    ):
        check_evaluation(tiny_run, "transfer", {"targets": f"patterns,folder:{missing}"})


@pytest.fixture
def of_two_checkpoints(tiny_run, tmp_path):
    """A copy of `tiny_run` with the states after one and two epochs, of which the first was the best."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("evaluation", "features", "at"))
    saved = checkpoints.loaded(run / "checkpoints")
    for epoch in (1, 2):
        changed = {name: array * (1 + epoch) for name, array in saved.variables.items()}
        checkpoints.save(run / "checkpoints", Position(epoch), changed, saved.meta | {"best": [0.5, 1]}, kept=9)
    return run


def test_another_checkpoint_is_judged_in_a_folder_of_its_own(of_two_checkpoints):
    run, digests = of_two_checkpoints, {}
    for which in ("newest", "best", "1", "2"):
        record = evaluate(run, "knn", checkpoint=which)
        digests[which] = record["encoder_digest_before"]
    assert digests["newest"] == digests["2"] != digests["best"] == digests["1"]
    before = checkpoints.loaded(run / "at" / "epoch-00001" / "checkpoints")
    assert digests["1"] == weights_digest(load_encoder(run, saved=before))
    folders = {path.relative_to(run).parent.as_posix() for path in run.rglob("knn.json")}
    assert folders == {"evaluation", "at/epoch-00001/evaluation", "at/epoch-00002/evaluation"}
    assert not list(run.rglob(".epoch*"))
    assert run_folder.title(run / "at" / "epoch-00001") == "run, epoch-00001" and run_folder.title(run) == "run"


def test_a_damaged_newest_checkpoint_is_noted(of_two_checkpoints, capsys):
    newest = of_two_checkpoints / "checkpoints" / "epoch-00002.npz"
    newest.write_bytes(newest.read_bytes()[:-1000])
    evaluate(of_two_checkpoints, "export", format="keras")
    assert f"note: skipped a damaged checkpoint: {newest}" in capsys.readouterr().out


def test_the_folder_of_a_checkpoint_has_its_part_of_the_log(of_two_checkpoints):
    columns = (*metrics.FIRST, *metrics.LAST)
    rows = [dict.fromkeys(columns) | {"epoch": epoch, "step": 4 * epoch} for epoch in (1, 2)]
    metrics.write_rows(of_two_checkpoints / "metrics.csv", columns, rows)
    assert metrics.read_rows(run_folder.at(of_two_checkpoints, "1") / "metrics.csv") == rows[:1]
    assert metrics.read_rows(run_folder.at(of_two_checkpoints, "2") / "metrics.csv") == rows


def test_a_checkpoint_written_anew_takes_the_place_of_its_link(of_two_checkpoints):
    run = of_two_checkpoints
    there = run_folder.at(run, "1") / "checkpoints"
    saved = checkpoints.loaded(there)
    zeros = {name: 0 * array for name, array in saved.variables.items()}
    checkpoints.save(run / "checkpoints", Position(1), zeros, saved.meta, kept=9)
    assert run_folder.at(run, "1") / "checkpoints" == there
    assert not any(array.any() for array in checkpoints.loaded(there).variables.values())


@pytest.mark.parametrize(
    ("mode", "which", "message"),
    [
        ("linear", "7", "after so many epochs: 1, 2 .* Received: `checkpoint=7`"),
        ("linear", "0", "newest, best or a number of epochs. Received: `checkpoint=0`"),
        ("linear", "last", "newest, best or a number of epochs. Received: `checkpoint=last`"),
        ("supervised", "1", "begins at random weights: leave `checkpoint` out. Received: `checkpoint=1`"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused(of_two_checkpoints, mode, which, message):
    with pytest.raises(ValueError, match=message):
        check_evaluation(of_two_checkpoints, mode, {"checkpoint": which})
    assert not (of_two_checkpoints / "at").exists()


def test_the_best_of_no_validation_losses_is_refused(tiny_run):
    with pytest.raises(ValueError, match="saved none with one: `validation_fraction` .*Received: `checkpoint=best`"):
        check_evaluation(tiny_run, "linear", {"checkpoint": "best"})
