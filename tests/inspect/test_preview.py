import numpy as np
import pytest
from PIL import Image

from simclr_tf.augment import OPERATORS, make_views
from simclr_tf.data.patterns import make_patterns
from simclr_tf.inspect import preview


@pytest.fixture(scope="module")
def images():
    return make_patterns(6, seed=0)[0]


def test_every_operator_has_a_row():
    assert set(preview.OPERATORS) == set(OPERATORS) - {"random_sobel"}  # which is sobel, of half of the views


@pytest.mark.parametrize("name", ["crop", "brightness", "rotate", "cutout", "noise", "blur", "sobel", "solarize"])
def test_rows_grow_stronger(images, name):
    shown = [preview.operate(name, images, strength).astype(float) for strength in preview.STRENGTHS]
    changes = [np.abs(x - images).mean() for x in shown]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_gray_images_have_pictures_too(images, tmp_path):
    single = images[..., :1]
    preview.draw_operators(single[:1], tmp_path / "operators.png", names=["jitter", "blur"])
    preview.draw_histograms(single[:2], *[make_views("crop", compiled=False)] * 2, tmp_path / "histograms.png")
    assert np.asarray(Image.open(tmp_path / "operators.png")).std() > 0


def test_the_command_draws_and_trains_nothing(run_python, tmp_path):
    result = run_python("train.py", "--preview", "--dataset=patterns", f"--run_dir={tmp_path / 'new'}")
    assert result.returncode == 0, result.stderr
    paths = result.stdout.splitlines()
    assert [path.rsplit("/", 1)[1] for path in paths] == ["views.png", "operators.png", "histograms.png"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["histograms.png", "operators.png", "views.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
