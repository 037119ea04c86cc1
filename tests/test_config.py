import dataclasses
import json

import pytest
from absl import flags as absl_flags

import flags
from simclr_tf import config as c
from simclr_tf.config import MODES, Config, field_type, mode_settings
from simclr_tf.config import pretraining as names
from simclr_tf.config.evaluation import EXPORT_FORMATS

SECTIONS = list(Config.sections().values())


def parsed(*arguments):
    """The config that a command line spells."""
    values = absl_flags.FlagValues()
    for group in flags.pretraining_groups().values():
        flags.define(group, values)
    values(["train.py", *arguments])
    return flags.config_from_flags(values)


def test_every_field_has_a_flag_with_its_default():
    assert parsed() == Config()
    names = [field.name for section in SECTIONS for field in dataclasses.fields(section)]
    assert len(names) == len(set(names))
    assert all(field.metadata["help"] for section in SECTIONS for field in dataclasses.fields(section))


def test_an_empty_value_takes_away_what_a_flagfile_says():
    recipe = ("--projection_width=1024", "--resolutions=16,32", "--max_steps=3")
    with pytest.raises(ValueError, match="takes away that of a flagfile. Received: .*`projection_width=1024`"):
        parsed(*recipe, "--projection=linear")
    again = parsed(*recipe, "--projection=linear", "--projection_width=", "--resolutions=", "--max_steps=")
    assert again == Config.of(projection="linear", resolutions="")
    with pytest.raises(absl_flags.IllegalFlagValueError, match="max_steps=x"):
        parsed("--max_steps=x")


def test_flagfile_replays_the_config(tmp_path):
    config = parsed(
        "--batch_size=64", "--blur", "--temperature=0.1", "--dataset=folder", "--data_dir=x y", "--image_size=48"
    )
    path = tmp_path / "flags.txt"
    path.write_text(config.flagfile())
    assert parsed(f"--flagfile={path}") == config


def test_recipes_parse():
    folder = flags.Path(flags.__file__).parent / "recipes"
    recipes = sorted(folder.glob("*.cfg"))
    assert {r.stem for r in recipes} >= {"demo", "cifar10_resnet50", "cifar10_resnet18", "cifar10_cpu", "folder"}
    for recipe in recipes:
        extra = ["--data_dir=photos"] if recipe.stem == "folder" else []
        assert isinstance(parsed(f"--flagfile={recipe}", *extra), Config), recipe


def test_the_papers_recipe_is_the_default():
    recipe = flags.Path(flags.__file__).parent / "recipes" / "cifar10_resnet50.cfg"
    assert parsed(f"--flagfile={recipe}", "--validation_fraction=0.1") == Config()


def test_json_round_trip(tmp_path):
    config = Config().replace("training", batch_size=8).replace("network", width=0.25)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    assert Config.load(path) == config


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"nonsense": {}}', '{"data": {"nonsense": 1}}', '{"data": 3}'])
def test_other_files_are_no_config(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="Received"):
        Config.load(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: c.Data(dataset="imagenet"),
        lambda: c.Data(validation_fraction=-0.1),
        lambda: c.Views(color_strength=-0.1),
        lambda: c.Network(width=0.0),
        lambda: c.Network(encoder="resnet19"),
        lambda: c.Network(encoder="nets:"),
        lambda: c.Network(encoder="nets:tiny", width=2.0),
        lambda: c.Network(projection_layers=5),
        lambda: c.Network(projection="linear", projection_layers=2),
        lambda: c.Loss(temperature=float("nan")),
        lambda: c.Optimization(learning_rate=0.0),
        lambda: c.Training(batch_size=1),
        lambda: c.Training(seed=-1),
        lambda: c.Hardware(logical_cpus=0),
        lambda: c.Output(resume=True),
        lambda: c.Output(resume=True, overwrite=True, run_dir="x"),
        lambda: c.Training(epochs="abc"),
        lambda: c.Training(batch_size=True),
        lambda: c.Loss(semi_hard="yes"),
        lambda: Config.of(temperatur=1.0),
        lambda: Config.of(temperature=-1.0),
        lambda: mode_settings("quadratic", {}),
        lambda: mode_settings("linear", {"layer": -1}),
        lambda: mode_settings("report", {"layer": 1}),
        lambda: mode_settings("invariance", {"layer": 1}),
        lambda: mode_settings("export", {"baselines": True}),
        lambda: mode_settings("linear", {"k": 5}),
        lambda: mode_settings("transfer", {"targets": "cifar100:d,folder"}),
    ],
)
def test_impossible_settings_are_named(make):
    with pytest.raises(ValueError, match=r"`\w+.*`.*Received: "):
        make()


def test_names_are_those_of_the_dicts():
    from simclr_tf.augment.crops import LAWS
    from simclr_tf.data import DATASETS
    from simclr_tf.distribution.strategy import STRATEGIES
    from simclr_tf.evaluation import embed, export
    from simclr_tf.evaluation.pseudo_label import METHODS
    from simclr_tf.networks import ENCODERS, PROJECTIONS
    from simclr_tf.optimizers.factory import OPTIMIZERS, SCALINGS

    assert {name.partition(":")[0] for name in names.DATASET_NAMES} == set(DATASETS)
    assert set(names.ENCODER_NAMES) == set(ENCODERS)
    assert set(names.OPTIMIZER_NAMES) == set(OPTIMIZERS)
    assert set(names.PROJECTION_NAMES) == set(PROJECTIONS)
    assert set(names.STRATEGY_NAMES) == set(STRATEGIES)
    assert set(EXPORT_FORMATS) == set(export.FORMATS)
    for section, name, known in (
        (c.Optimization, "lr_scaling", SCALINGS), (c.Views, "crop_law", LAWS), (c.PseudoLabel, "by", METHODS),
        (c.Embed, "format", embed.FORMATS),
    ):  # fmt: skip
        assert set(section.__dataclass_fields__[name].metadata["choices"]) == set(known), name


def test_settings_by_name_and_their_values():
    config = Config.of(dataset="patterns", width=0.25, epochs=3, warmup_epochs=10)
    assert config == Config().replace("data", dataset="patterns").replace("network", width=0.25).replace(
        "training", epochs=3
    )
    assert config.value("width") == 0.25 and config.value("batch_size") == 1024


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert Config.of(run_dir="~/x", data_dir="~/y").output.run_dir == "/home/someone/x"
    assert mode_settings("knn", {"data_dir": "~/y"}).data_dir == "/home/someone/y"


def test_folders_of_data_are_absolute(monkeypatch, tmp_path):
    """A run is evaluated from other places, where a relative one would name something else."""
    monkeypatch.chdir(tmp_path)
    data = Config.of(data_dir="photos", judge_dataset="folder", judge_data_dir="../labeled").data
    assert data.data_dir == str(tmp_path / "photos") and data.judge_data_dir == str(tmp_path.parent / "labeled")
    assert Config.of(data_dir="gs://bucket/photos").data.data_dir == "gs://bucket/photos"


@pytest.mark.parametrize("name", ["run_dir", "data_dir"])
def test_an_empty_path_is_refused(name):
    """Such as that of a variable of the shell that is not set."""
    with pytest.raises(ValueError, match=f"`{name}` must name a file or folder, or be left out. Received: $"):
        Config.of(**{name: ""})


def test_a_setting_of_the_wrong_type_is_named_with_its_file(tmp_path):
    path = tmp_path / "config.json"
    values = Config().to_dict()
    values["training"]["epochs"] = "abc"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json of a run. Received: .*config.json \(`epochs` must be an int"):
        Config.load(path)


def test_every_mode_says_what_it_does():
    assert all(kind.summary.endswith(".") for kind in MODES.values())
    assert len({kind.summary for kind in MODES.values()}) == len(MODES)


def test_resume_keeps_what_is_not_given(tmp_path):
    saved = Config.of(batch_size=8, max_steps=3, checkpoint_epochs=1, strategy="mirrored", logical_cpus=2)
    (tmp_path / "config.json").write_text(json.dumps(saved.to_dict()))
    again = parsed("--resume", f"--run_dir={tmp_path}", "--strategy=single")
    assert again.training.batch_size == 8 and again.training.max_steps is None
    assert again.hardware.strategy == "single" and again.hardware.logical_cpus == 2
    assert again.output == c.Output(run_dir=str(tmp_path), resume=True, checkpoint_epochs=1)
    with pytest.raises(ValueError, match="`batch_size=8`.*Received: `batch_size=16`"):
        parsed("--resume", f"--run_dir={tmp_path}", "--batch_size=16")


def test_the_data_may_lie_elsewhere_when_resumed(tmp_path, capsys):
    """As on a node's own disk; its fingerprint is compared when it is read."""
    saved = Config.of(data_dir="/disk1/cifar", run_dir=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(saved.to_dict()))
    again = parsed("--resume", f"--run_dir={tmp_path}", "--data_dir=/disk2/cifar")
    assert again.data.data_dir == "/disk2/cifar" and again.difference(tmp_path) is None
    assert again.difference(tmp_path, same_data_dir=True) == ("data_dir", "/disk1/cifar", "/disk2/cifar")
    assert "from now on --data_dir=/disk2/cifar, which was /disk1/cifar" in capsys.readouterr().out


def test_a_path_in_the_home_directory_is_the_same_when_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ("--dataset=folder", "--image_size=8", "--data_dir=~/photos", "--judge_dataset=folder",
             "--judge_data_dir=~/labeled", f"--run_dir={tmp_path}", "--resume")  # fmt: skip
    first = parsed(*given)
    (tmp_path / "config.json").write_text(json.dumps(first.to_dict()))
    assert parsed(*given) == first and capsys.readouterr().out == ""
    monkeypatch.chdir(tmp_path)
    again = parsed(*[word.replace("~/", "") for word in given])  # the same folder by its relative path
    assert again == first and capsys.readouterr().out == ""


def test_empty_paths_of_earlier_versions_mean_none(tmp_path):
    values = Config().to_dict()
    values["data"]["data_dir"] = values["output"]["run_dir"] = ""
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert Config.load(tmp_path / "config.json") == Config()


def test_a_flagfile_repeats_the_checkpoints_but_not_the_folder():
    text = Config.of(run_dir="x", resume=True, checkpoint_epochs=3).flagfile()
    assert "--checkpoint_epochs=3\n" in text and "run_dir" not in text and "resume" not in text


def test_what_is_typed_wins_over_a_flagfile_that_follows():
    words = flags.flagfiles_first(["x", "--epochs=3", "--flagfile", "recipe:demo", "a", "--", "--flagfile=theirs"])
    assert words == ["x", f"--flagfile={flags.RECIPES / 'demo.cfg'}", "--epochs=3", "a", "--", "--flagfile=theirs"]


def test_names_of_settings_become_flags():
    assert flags.as_flags("`dataset=folder` needs `data_dir`") == "--dataset=folder needs --data_dir"


def test_settings_of_one_name_have_one_type():
    """They share a flag, which takes the type of one of them."""
    kinds: dict[str, set] = {}
    for mode in MODES.values():
        for field in dataclasses.fields(mode):
            kinds.setdefault(field.name, set()).add(field_type(field))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_a_precision_that_the_machine_decided_is_no_difference(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config.of(precision="mixed_bfloat16").to_dict()))
    assert Config.of(precision="auto").difference(tmp_path) is None
    assert Config.of(precision="float32").difference(tmp_path) == ("precision", "mixed_bfloat16", "float32")


def test_the_first_setting_that_differs_is_found(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config.of(max_steps=3).to_dict()))
    assert Config.of(max_steps=5).difference(tmp_path) == ("max_steps", 3, 5)
    assert Config.of(max_steps=5).difference(tmp_path, ["max_steps"]) is None
    assert Config.of(temperature=0.1).difference(tmp_path, ["max_steps"]) == ("temperature", 0.5, 0.1)


def test_a_flag_that_goes_with_a_kept_one_may_be_repeated(tmp_path):
    saved = Config.of(run_dir=str(tmp_path), optimizer="sgd", coupled_decay=True)
    (tmp_path / "config.json").write_text(json.dumps(saved.to_dict()))
    resumed = parsed(f"--run_dir={tmp_path}", "--resume", "--coupled_decay")
    assert resumed.optimization == saved.optimization
    with pytest.raises(ValueError, match="`resume` continues a run with `optimizer=sgd`.*Received: `optimizer=adamw`"):
        parsed(f"--run_dir={tmp_path}", "--resume", "--optimizer=adamw")
