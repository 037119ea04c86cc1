"""An installed copy, outside of the checkout: built, trained and judged with its own commands."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from tests.conftest import ROOT

pytest.importorskip("setuptools", minversion="77")

PARTS = ("simclr_tf", "flags", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta as b; out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"
EMBED = """
import numpy as np, simclr_tf
encoder = simclr_tf.load_encoder("run")
assert encoder(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, encoder.output_shape[1])
try:
    import flags
except ImportError:
    print(simclr_tf.__file__)
"""


def call(*words, cwd, **options):
    result = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=600, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a wheel and an sdist, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("build")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    call(sys.executable, "-c", BUILD, folder / "dist", cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The scripts of a fresh environment with the wheel in it; dependencies are those that the tests run with."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", f"--python={folder / 'bin' / 'python'}")
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder / "bin"


def test_wheel_and_sdist_hold_the_library_its_commands_and_recipes(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert "simclr_tf/flags/train.py" in names and "simclr_tf/flags/recipes/demo.cfg" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"simclr_tf"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "simclr_tf").rglob("*.py")}
    assert sources <= set(names)
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert sources | {"flags/__init__.py", "flags/recipes/demo.cfg", "requirements.txt"} <= members


def test_the_installed_commands_train_judge_and_embed(installed, tmp_path):
    recipe = [
        "--flagfile=recipe:demo",
        "--encoder=vgg11",
        "--width=0.0625",
        "--augmentations=flip",
        "--batch_size=32",
        "--max_steps=2",
        "--run_dir=run",
    ]
    output = call(installed / "simclr-train", *recipe, cwd=tmp_path)
    assert "epoch 1/4  step 2 " in output
    assert "knn probe on patterns" in call(installed / "simclr-evaluate", "--run_dir=run", "--mode=knn", cwd=tmp_path)
    assert (tmp_path / "run" / "evaluation" / "knn.json").exists()
    home = call(installed / "python", "-c", EMBED, cwd=tmp_path).strip()
    assert home.startswith(str(installed.parent))


@pytest.mark.parametrize(
    "name", ["simclr-train", "simclr-evaluate", "simclr-study", "simclr-launch", "simclr-data-service"]
)
def test_every_command_has_help(installed, tmp_path, name):
    assert call(installed / name, "--help", cwd=tmp_path).strip()
