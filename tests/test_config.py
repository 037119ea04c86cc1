import dataclasses
import json

import pytest
from absl import flags as absl_flags

import flags
from simclr_tf import config as c
from simclr_tf.config import Config, Evaluation

SECTIONS = list(Config.sections().values())


def parsed(*arguments):
    """The config that a command line spells."""
    values = absl_flags.FlagValues()
    flags.define_pretraining(values)
    values(["train.py", *arguments])
    return flags.config_from_flags(values)


def test_every_field_has_a_flag_with_its_default():
    assert parsed() == Config()
    names = [field.name for section in SECTIONS for field in dataclasses.fields(section)]
    assert len(names) == len(set(names))
    assert all(field.metadata["help"] for section in SECTIONS for field in dataclasses.fields(section))


def test_flagfile_replays_the_config(tmp_path):
    config = parsed(
        "--batch_size=64", "--blur", "--temperature=0.1", "--dataset=folder", "--data_dir=x y", "--image_size=48"
    )
    path = tmp_path / "flags.txt"
    path.write_text(flags.as_flagfile(config))
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
    assert parsed(f"--flagfile={recipe}") == Config()


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
        lambda: c.Data(validation_fraction=0.0),
        lambda: c.Augmentation(color_strength=-0.1),
        lambda: c.Network(width=0.0),
        lambda: c.Network(encoder="resnet19"),
        lambda: c.Network(encoder="nets:"),
        lambda: c.Network(encoder="nets:tiny", width=2.0),
        lambda: c.Network(projection_layers=5),
        lambda: c.Network(projection="linear", projection_layers=2),
        lambda: c.Objective(temperature=float("nan")),
        lambda: c.Optimization(learning_rate=0.0),
        lambda: c.Training(batch_size=1),
        lambda: c.Training(seed=-1),
        lambda: c.Hardware(logical_cpus=0),
        lambda: Config(data=c.Data(dataset="folder", image_size=32)),
        lambda: Config(data=c.Data(dataset="folder", data_dir="x")),
        lambda: Config(data=c.Data(dataset="patterns", data_dir="x")),
        lambda: Config(output=c.Output(resume=True)),
        lambda: Config(output=c.Output(resume=True, overwrite=True, run_dir="x")),
        lambda: Evaluation(),
        lambda: Evaluation(run_dir="x", mode="nonsense"),
        lambda: Evaluation(run_dir="x", layer=-1),
    ],
)
def test_impossible_settings_are_named(make):
    with pytest.raises(ValueError, match=r"--\w+.*Received: "):
        make()


def test_names_are_those_of_the_dicts():
    from simclr_tf import distribution
    from simclr_tf.data import DATASETS
    from simclr_tf.evaluation.probing import PROBES
    from simclr_tf.networks import ENCODERS, PROJECTIONS
    from simclr_tf.optimizers.factory import OPTIMIZERS, SCALINGS

    assert set(c.DATASETS) == set(DATASETS)
    assert set(c.ENCODERS) == set(ENCODERS)
    assert set(c.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(c.PROJECTIONS) == set(PROJECTIONS)
    assert set(c.STRATEGIES) == set(distribution.STRATEGIES)
    assert set(c.MODES) == {"export", *PROBES}
    scaling = next(f for f in dataclasses.fields(c.Optimization) if f.name == "lr_scaling")
    assert set(scaling.metadata["choices"]) == set(SCALINGS)


def test_resume_keeps_the_settings_of_the_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config().replace("training", batch_size=8, max_steps=3).to_dict()))
    again = parsed("--resume", f"--run_dir={tmp_path}", "--strategy=mirrored")
    assert again.training.batch_size == 8 and again.training.max_steps is None
    assert again.hardware.strategy == "mirrored" and again.output.resume
    with pytest.raises(ValueError, match="--batch_size=8.*Received: --batch_size=16"):
        parsed("--resume", f"--run_dir={tmp_path}", "--batch_size=16")
