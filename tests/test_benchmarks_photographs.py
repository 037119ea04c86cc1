"""The generator of photograph-like files: what it writes from a folder of pictures, and that a seed decides it."""

import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import photographs

COUNT = 12


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Smooth random pictures of two classes, and a file that is none."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for name in ("train/hills", "train/lakes", "test/lakes"):
        (folder / name).mkdir(parents=True)
        pixels = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels.resize((160, 120), Image.Resampling.BICUBIC).save(folder / name / "a.png")
    (folder / "train/hills/notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def found(scenes):
    paths = sorted(scenes.glob("*/*/*.png"))
    return {name: [path for path in paths if path.parent.name == name] for name in ("hills", "lakes")}


def made(folder, found, seed=0, workers=1):
    photographs.generate(folder, COUNT, found, seed, workers)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


@pytest.fixture(scope="module")
def files(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("out")
    made(folder, found)
    return folder


def test_splits_and_classes(files):
    names = [path.relative_to(files).as_posix() for path in files.rglob("*.jpg")]
    assert len(names) == COUNT and sum(name.startswith("test/") for name in names) == COUNT // 10
    assert {name.split("/")[1] for name in names} == {"hills", "lakes"}
    assert len({name.split("/")[2] for name in names}) == COUNT


def test_sizes_and_orientation(files):
    """The upright ones lie on their side and are turned by any reader of EXIF."""
    upright = 0
    for path in files.rglob("*.jpg"):
        with Image.open(path) as picture:
            assert picture.format == "JPEG" and picture.mode == "RGB" and picture.size == (500, 375)
            orientation = picture.getexif().get(0x0112, 1)
            shown = ImageOps.exif_transpose(picture).size
        assert (orientation, shown) in [(1, (500, 375)), (6, (375, 500))]
        upright += orientation == 6
    assert upright == 2  # files 0 and 3: the first of each class


@pytest.mark.parametrize("classes", [1, 2, 10, 60])
def test_one_in_fifty_is_upright(classes):
    """Of every class, over 50 files of each."""
    numbers = np.arange(50 * classes)
    upright = np.array([photographs.is_upright(number, classes) for number in numbers])
    np.testing.assert_array_equal(np.bincount(numbers[upright] % classes, minlength=classes), 1)


def test_an_upright_picture_is_shown_upright(tmp_path):
    """White above, black below: so it is after the turn that EXIF asks for."""
    pixels = np.zeros((500, 375, 3), np.uint8)
    pixels[:250] = 255
    photographs.save(Image.fromarray(pixels), tmp_path / "a.jpg", quality=95, upright=True)
    with Image.open(tmp_path / "a.jpg") as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    assert shown.shape == (500, 375, 3) and shown[:240].min() > 200 and shown[260:].max() < 55


def test_the_seed_decides(tmp_path, files, found):
    same, other = made(tmp_path / "same", found, workers=2), made(tmp_path / "other", found, seed=1)
    assert same == {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*.jpg")}
    assert same.keys() == other.keys() and not any(same[name] == other[name] for name in same)


def test_no_two_files_are_the_same(files):
    assert len({path.read_bytes() for path in files.rglob("*.jpg")}) == COUNT


def test_refuses_a_folder_with_files(tmp_path, found):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ValueError, match=r"empty folder.*Received: .*"):
        photographs.generate(tmp_path, COUNT, found)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("count", "workers"), [(0, 1), (1, 0)])
def test_refuses_counts_that_are_not_positive(tmp_path, found, count, workers):
    with pytest.raises(ValueError, match="positive. Received: "):
        photographs.generate(tmp_path / "out", count, found, workers=workers)
    assert not (tmp_path / "out").exists()


def without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)


def test_without_scikit_image(scenes, found, monkeypatch, capsys):
    """Pictures in a folder suffice; a line says that only they are used."""
    without_scikit_image(monkeypatch)
    assert photographs.sources(scenes) == found
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--scenes=nowhere"]])
def test_without_any_picture(tmp_path, monkeypatch, capsys, words):
    without_scikit_image(monkeypatch)
    with pytest.raises(SystemExit):
        photographs.main([str(tmp_path / "out"), *words])
    assert "Received: " in capsys.readouterr().err.splitlines()[-1]


def test_scikit_images_own_photographs():
    """Every name exists, needs no download and is a photograph of at least 300 pixels."""
    pytest.importorskip("skimage")
    found = photographs.sources()
    assert set(found) == set(photographs.GROUPS)
    assert all(min(photographs.load(name).size) >= 300 for names in found.values() for name in names)


def test_a_class_must_not_be_one_of_scikit_images(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", ModuleType("skimage"))
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"groups. Received: \['cat'\]"):
        photographs.sources(tmp_path)
