"""The registry of protocols, and where the results of each go."""

import importlib

import pytest

from simclr_tf.config import MODES, Data
from simclr_tf.evaluation import PROTOCOLS, evaluate
from simclr_tf.preflight import results_folder


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
    assert found[:2] == [tmp_path / "evaluation"] * 2 and found[2].name.startswith("all-")
    assert results_folder(tmp_path, 0, ("cifar10", str(tmp_path / "all")), Data()) == tmp_path / "evaluation"


def test_results_of_another_layer_or_data_set_have_a_folder_of_their_own(tmp_path):
    own = Data(dataset="cifar10")
    cases = ((0, "cifar10"), (2, "cifar10"), (0, "patterns"), (2, "patterns"))
    folders = [results_folder(tmp_path, layer, (name, None), own) for layer, name in cases]
    names = ["", "layer2", "patterns", "layer2/patterns"]
    assert folders == [tmp_path / "evaluation" / name for name in names]
