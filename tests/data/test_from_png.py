"""CIFAR-10 from PNG files: the same images and labels as went in."""

import shutil

import numpy as np
import pytest
from PIL import Image

from simclr_tf.data.cifar import load_cifar
from simclr_tf.data.from_png import convert

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three training images and one test image a class."""
    folder, rng = tmp_path_factory.mktemp("png"), np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{name}_{index}.png")
    return folder


def pixels(folder, label):
    return {np.asarray(Image.open(path)).tobytes() for path in (folder / CLASSES[label]).iterdir()}


def test_every_image_arrives_with_its_label(tree, tmp_path):
    assert convert(tree, tmp_path) == tmp_path / "cifar-10-batches-bin"
    dataset = load_cifar("cifar10", tmp_path)
    assert dataset.class_names == CLASSES
    for split, name in ((dataset.train, "train"), (dataset.test, "test")):
        images = split.array()
        for label in range(10):
            ours = {image.tobytes() for image in images[split.labels == label]}
            assert ours == pixels(tree / name, label)


def test_the_command(tree, tmp_path, run_python):
    done = run_python("-m", "simclr_tf.data.from_png", tree, tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip().endswith("cifar-10-batches-bin")
    wrong = run_python("-m", "simclr_tf.data.from_png", tree)
    assert wrong.returncode == 1 and "usage" in wrong.stderr
    shown = run_python("-m", "simclr_tf.data.from_png", "--help")
    assert (shown.returncode, shown.stderr) == (0, "") and "PNG_FOLDER DATA_DIR" in shown.stdout


def test_a_copy_that_is_there_is_not_replaced(tree, tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(ValueError, match="delete the old one first. Received: .*cifar-10-batches-bin"):
        convert(tree, tmp_path)


def test_what_is_no_such_tree_is_refused_and_nothing_is_written(tree, tmp_path):
    broken = tmp_path / "png"
    shutil.copytree(tree, broken)
    shutil.rmtree(broken / "test" / "cat")
    with pytest.raises(ValueError, match="same ten classes.*Received"):
        convert(broken, tmp_path / "out")
    shutil.copytree(tree / "test" / "cat", broken / "test" / "cat")
    Image.new("RGB", (31, 32)).save(broken / "train" / "cat" / "odd.png")
    with pytest.raises(ValueError, match=r"32 x 32 pixels.*odd\.png, of 31 x 32"):
        convert(broken, tmp_path / "out")
    whole = (broken / "train" / "cat" / "cat_0.png").read_bytes()
    (broken / "train" / "cat" / "odd.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"Expected PNG files. Received: .*odd\.png \(.*truncated"):
        convert(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()
