import pytest
from absl import flags as absl_flags

import flags
from simclr_tf.config import Config
from simclr_tf.studies import settings

RECIPES = sorted((flags.Path(flags.__file__).parent / "recipes").glob("*.cfg"))


def as_train_py_reads(*words):
    values = absl_flags.FlagValues()
    flags.define_pretraining(values)
    values(["train.py", *words])
    return flags.config_from_flags(values)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--batch_size=64", "--temperature", "0.1", "--blur", "--nonormalize"],
        ["--blur=true", "--blur=false", "--projection_width=32", "--projection_bn=0"],
        ["-epochs=20", "--augmentations=crop,flip", "--dataset=folder", "--data_dir=a b", "--image_size=32"],
        ["--epochs=20", f"--flagfile={RECIPES[0]}", "--seed=3"],
    ],
)
def test_reads_what_train_py_reads(words):
    given = settings.parse(words)
    assert settings.config_of(given) == as_train_py_reads(*words)
    assert as_train_py_reads(*settings.words(given)) == settings.config_of(given)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_reads_every_recipe(recipe):
    extra = ["--data_dir=photos"] if recipe.stem == "folder" else []
    words = [f"--flagfile={recipe}", *extra]
    assert settings.config_of(settings.parse(words)) == as_train_py_reads(*words) != Config.sections()


@pytest.mark.parametrize(
    "words",
    [["--batch_sise=3"], ["--batch_size=x"], ["--blur=maybe"], ["cifar10"], ["--epochs"], ["--run_dir=x"],
     ["--resume"], ["--nooverwrite"], ["--nobatch_size"], ["--temperature=warm"]],
)  # fmt: skip
def test_what_train_py_would_refuse_is_refused(words):
    with pytest.raises(ValueError, match="Received: "):
        settings.parse(words)


def test_illegal_values_are_those_of_the_configuration():
    with pytest.raises(ValueError, match="--temperature must be greater than 0"):
        settings.config_of(settings.parse(["--temperature=0"]))
