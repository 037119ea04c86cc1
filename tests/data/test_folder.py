"""Folders of images: layouts, decoding, damaged files."""

import io
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf.data import manifest
from simclr_tf.data.folder import EXTENSIONS, FileImages, load_folder
from simclr_tf.data.manifest import inspect
from simclr_tf.data.pipeline import naming_lost_images, ordered_batches, training_batches
from simclr_tf.data.source import Split, lost


def paint(path, color=(200, 30, 60), size=(12, 10), **options):
    """Writes an image of one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def classes(root, **counts):
    for shade, (name, count) in enumerate(counts.items()):
        for i in range(count):
            paint(root / name / f"{i:02}.png", (40 * shade, 100, i))
    return root


def only(path, size=8):
    """The one image of a file."""
    return Split(FileImages(inspect([str(path)]), size)).array()[0]


def test_class_folders_are_labels_in_sorted_order(tmp_path):
    data = load_folder(classes(tmp_path, zebra=5, ant=5), 8)
    assert data.class_names == ("ant", "zebra") and data.num_classes == 2
    for split in (data.train, data.test):
        assert split.labels.dtype == np.int32 and set(split.labels) == {0, 1}
        # `zebra` was painted first, with 0 red.
        np.testing.assert_array_equal(split.array()[:, 0, 0, 0], np.where(split.labels == 1, 0, 40))


def test_a_fifth_is_held_out_for_ever_the_same(tmp_path):
    classes(tmp_path, a=10, b=5)
    first, again = load_folder(tmp_path, 8), load_folder(tmp_path, 8)
    assert np.bincount(first.test.labels).tolist() == [2, 1] and len(first.train) == 12
    np.testing.assert_array_equal(first.test.array(), again.test.array())
    assert any("3 images" in note and "held out" in note for note in first.notes)


def test_train_and_test_folders_share_their_labels(tmp_path):
    classes(tmp_path / "train", a=2, b=2)
    classes(tmp_path / "test", b=3)
    data = load_folder(tmp_path, 8)
    assert (len(data.train), len(data.test)) == (4, 3)
    assert data.test.labels.tolist() == [1, 1, 1] and data.notes == ()


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "test")])
def test_splits_are_recognized_whatever_the_case(tmp_path, train, test):
    classes(tmp_path / train, a=2, b=2)
    classes(tmp_path / test, b=3)
    data = load_folder(tmp_path, 8)
    assert data.class_names == ("a", "b") and (len(data.train), len(data.test)) == (4, 3)
    assert data.notes == ()


def test_of_two_folders_that_differ_in_case_one_is_read_and_the_other_noted(tmp_path):
    classes(tmp_path / "train", a=2)
    classes(tmp_path / "Train", b=3)
    data = load_folder(tmp_path, 8)
    assert data.class_names == ("a",) and any("not read: Train" in note for note in data.notes)


def test_a_test_class_without_training_images_is_refused(tmp_path):
    classes(tmp_path / "train", a=2)
    classes(tmp_path / "test", a=1, c=1)
    with pytest.raises(ValueError, match=r"\['a'\]. Received: \['c'\]"):
        load_folder(tmp_path, 8)


def test_flat_folders_are_unlabeled(tmp_path):
    paint(tmp_path / "train" / "1.png")
    paint(tmp_path / "test" / "2.png")
    for data, has_test in ((load_folder(tmp_path, 8), True), (load_folder(tmp_path / "train", 8), False)):
        assert data.train.labels is None and data.class_names is None
        assert (data.test is not None) == has_test


def test_test_images_stay_test_images_beside_other_folders(tmp_path):
    paint(tmp_path / "train" / "1.png")
    paint(tmp_path / "test" / "2.png")
    paint(tmp_path / "masks" / "3.png")
    data = load_folder(tmp_path, 8)
    assert (len(data.train), len(data.test), data.train.labels) == (1, 1, None)
    assert any("not read: masks" in note for note in data.notes)


def test_unlabeled_test_images_of_a_labeled_training_set_are_noted(tmp_path):
    classes(tmp_path / "train", a=2)
    paint(tmp_path / "test" / "2.png")
    data = load_folder(tmp_path, 8)
    assert data.test.labels is None and "no labels" in data.notes[0]


def test_a_class_may_be_called_train(tmp_path):
    assert load_folder(classes(tmp_path, car=2, train=2), 8).class_names == ("car", "train")


def test_folders_that_are_not_read_are_noted(tmp_path):
    for name in ("train", "test", "val"):
        classes(tmp_path / name, a=3)
    assert any("not read: val" in note for note in load_folder(tmp_path, 8).notes)


def test_validation_images_are_judged_on_where_there_are_no_test_images(tmp_path):
    classes(tmp_path / "train", a=5, b=5)
    classes(tmp_path / "val", a=1, b=2)
    data = load_folder(tmp_path, 8)
    assert (len(data.train), len(data.test)) == (10, 3)
    assert any("the test images are those of" in note and note.endswith("val") for note in data.notes)


def test_a_few_filed_images_are_not_taken_for_all(tmp_path):
    classes(tmp_path, edited=2)
    for number in range(3):
        paint(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match="move the 2 of the folders elsewhere.*Received: 3 images in .*edited"):
        load_folder(tmp_path, 8)


def test_hidden_and_other_files_are_skipped_and_classes_read_to_the_bottom(tmp_path):
    paint(tmp_path / "a" / "deep" / "1.png")
    paint(tmp_path / "a" / ".hidden.png")
    paint(tmp_path / "a" / ".cache" / "2.png")
    paint(tmp_path / ".git" / "3.png")
    (tmp_path / "a" / "readme.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    data = load_folder(tmp_path, 8)
    assert len(data.train) == 1 and data.class_names == ("a",)


def test_images_beside_class_folders_are_left_out_and_noted(tmp_path):
    paint(classes(tmp_path, a=2) / "loose.png")
    data = load_folder(tmp_path, 8)
    assert len(data.train) + len(data.test) == 2
    assert data.notes[0] == f"folder: left out 1 image in no class folder in {tmp_path}, such as loose.png"


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    classes(tmp_path, a=2, b=2)
    for i in range(40):
        (tmp_path / "a" / f"{i:02}.tif").write_bytes(b"")
    (tmp_path / "README").write_text("not an image")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"")  # hidden, so not worth a word
    for i in range(3):
        (tmp_path / "b" / f"gone{i}.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "b" / "more").symlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    data = load_folder(tmp_path, 8)
    assert len(data.train) + len(data.test) == 4
    left_out = [note for note in data.notes if "left out" in note]
    endings = "not ending in .bmp, .gif, .jpeg, .jpg, .png, .webp"
    assert set(left_out) == {
        f"folder: left out 41 files {endings} in {tmp_path}, such as README",
        f"folder: left out 3 dangling links in {tmp_path}, such as b/gone0.jpg",
        f"folder: left out 2 linked folders in {tmp_path}, such as b/more",
    }


def test_links_are_followed_within_the_folder_only(tmp_path):
    for name, color in (("data/a/1.png", "red"), ("data/pool/2.png", "blue"), ("elsewhere.png", "green")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), color).save(tmp_path / name)
    (tmp_path / "data" / "a" / "link.png").symlink_to(tmp_path / "data" / "pool" / "2.png")
    (tmp_path / "data" / "a" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    dataset = load_folder(tmp_path / "data", 8)
    images = [*dataset.train.images.paths, *dataset.test.images.paths]
    assert sorted(path.rpartition("/")[2] for path in images) == ["1.png", "2.png", "link.png"]
    assert any("left out 1 link out of the folder in" in note for note in dataset.notes)


def test_links_alone_are_an_error_that_says_why(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ValueError, match="with no image; folder: left out 1 link out of the folder"):
        load_folder(tmp_path / "data", 8)


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    monkeypatch.setattr(manifest, "MAX_PIXELS", 1000)
    dataset = load_folder(tmp_path, 8)
    assert len(dataset.train) == 1
    assert any("40 x 30 pixels, and at most 1000 are decoded" in note for note in dataset.notes)


def test_names_may_hold_spaces_dollar_signs_and_any_letters(tmp_path):
    root = tmp_path / "my $photos, übung"
    paint(root / "rot und weiß" / "ein bild $1.png", (200, 0, 0))
    paint(root / "$HOME {x}" / "图 %s.png", (0, 200, 0))
    data = load_folder(root, 8)
    assert data.class_names == ("$HOME {x}", "rot und weiß")
    assert len(data.train) + len(data.test) == 2 and len(data.notes) == 1  # that there is no test folder
    for split in (data.train, data.test):
        np.testing.assert_array_equal(split.array()[:, 0, 0, 0], 200 * split.labels)


def test_names_that_the_locale_cannot_decode_are_escaped(tmp_path):
    root = tmp_path / os.fsdecode(b"r\xfft")
    try:
        paint(root / os.fsdecode(b"clas\xe9") / "1.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for name in (b"bad\xff.png", b"not\xff.tif"):
        (root / os.fsdecode(b"clas\xe9") / os.fsdecode(name)).write_text("not an image")
    data = load_folder(root, 8)
    strict = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    print(*data.notes, *data.class_names, file=strict, flush=True)
    assert data.class_names == (r"clas\udce9",)
    assert sum(r"bad\udcff.png" in note for note in data.notes) == sum(r"not\udcff.tif" in n for n in data.notes) == 1
    assert len(data.train.images.fingerprint()) == 64

    with pytest.raises(ValueError, match=r"Received: .*r\\udcfft.*, with no image") as caught:
        shutil.rmtree(root / os.fsdecode(b"clas\xe9"))
        load_folder(root, 8)
    print(caught.value, file=strict, flush=True)


@pytest.mark.parametrize("extension", [*EXTENSIONS, ".JPG", ".Png"])
def test_every_extension_is_decoded(tmp_path, extension):
    path = paint(tmp_path / f"1{extension}", (200, 30, 60))
    data = load_folder(tmp_path, 8)
    assert len(data.train) == 1
    assert np.abs(only(path).astype(int) - (200, 30, 60)).max() < 12


def test_modes_become_rgb(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "gray.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 128)).save(tmp_path / "alpha.png")
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.fromarray(np.full((8, 8), 77 << 8, np.uint16)).save(tmp_path / "deep.png")
    Image.new("P", (8, 8), 0).save(tmp_path / "palette.png", transparency=b"\x80")
    images = {path.stem: only(path) for path in tmp_path.iterdir() if path.stem != "palette"}
    assert (images["gray"] == 77).all() and (images["deep"] == 77).all() and (images["bit"] == 255).all()
    assert (images["alpha"] == (1, 2, 3)).all()
    assert len(load_folder(tmp_path, 8).train) == 5


def test_only_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "1.gif", save_all=True, append_images=frames[1:])
    assert (only(tmp_path / "1.gif") == (255, 0, 0)).all()


def test_the_center_square_is_kept(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "1.png")
    assert (only(tmp_path / "1.png", 10) == 255).all()


def test_scaling_down_averages(tmp_path):
    pixels = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    assert np.abs(only(tmp_path / "1.png").astype(int) - 127).max() < 20


def test_images_are_turned_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: left becomes top
    Image.fromarray(pixels).save(tmp_path / "1.jpg", exif=exif, quality=95)
    image = only(tmp_path / "1.jpg", 16)
    assert image[:6].min() > 240 and image[-6:].max() < 15


def test_damaged_files_are_left_out_and_named(tmp_path):
    classes(tmp_path, a=3, b=3)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / "whole.jpg")
    content = (tmp_path / "a" / "whole.jpg").read_bytes()
    (tmp_path / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "b" / "text.png").write_text("no image")
    (tmp_path / "b" / "void.gif").write_bytes(b"")
    data = load_folder(tmp_path, 8)
    assert len(data.train) + len(data.test) == 7
    for name in ("a/cut.jpg", "b/text.png", "b/void.gif"):
        assert sum(name in note for note in data.notes) == 1


def test_many_damaged_files_are_counted(tmp_path):
    paint(tmp_path / "1.png")
    for i in range(13):
        (tmp_path / f"bad{i}.png").write_text("no image")
    notes = load_folder(tmp_path, 8).notes
    assert len(notes) == 11 and "3 more" in notes[-1]


def test_another_format_under_a_known_name_is_damaged(tmp_path):
    paint(tmp_path / "1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "2.png", format="TIFF")
    assert "2.png" in load_folder(tmp_path, 8).notes[0]


@pytest.mark.filterwarnings("error")
def test_huge_images_make_no_noise(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    paint(tmp_path / "1.png", size=(9, 9))  # warned of
    paint(tmp_path / "2.png", size=(20, 20))  # refused
    data = load_folder(tmp_path, 8)
    assert len(data.train) == 1 and "2.png" in data.notes[0]


@pytest.mark.parametrize("content", [None, "readme.txt", "broken.png"])
def test_a_folder_without_images_is_refused(tmp_path, content):
    if content:
        (tmp_path / content).write_text("no image")
    with pytest.raises(ValueError, match=r"\.bmp, .*\.webp. Received: .*" + tmp_path.name):
        load_folder(tmp_path, 8)


def test_no_folder_and_no_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: .*absent"):
        load_folder(tmp_path / "absent", 8)
    with pytest.raises(ValueError, match="Received: 0"):
        load_folder(tmp_path, 0)


def test_streams_read_what_the_array_holds(tmp_path):
    data = load_folder(classes(tmp_path, a=9), 8)
    stream = ordered_batches(data.train, 3, drop_remainder=True)
    assert stream.element_spec == tf.TensorSpec((3, 8, 8, 3), tf.uint8)
    batches = np.concatenate(list(stream.as_numpy_iterator()))
    np.testing.assert_array_equal(batches, data.train.array()[: len(batches)])
    shuffled = next(training_batches(data.train, 7, seed=0).as_numpy_iterator())
    assert sorted(shuffled[:, 0, 0, 2]) == sorted(data.train.array()[:, 0, 0, 2])


def test_take_keeps_files_and_labels_together(tmp_path):
    train = load_folder(classes(tmp_path, a=5, b=5), 8).train
    part = train.take(np.array([5, 0]))
    np.testing.assert_array_equal(part.array(), train.array()[[5, 0]])
    assert part.labels.tolist() == train.labels[[5, 0]].tolist()


def test_a_file_that_breaks_later_is_an_error_with_its_name(tmp_path):
    path = paint(tmp_path / "later.png")
    train = load_folder(tmp_path, 8).train
    path.write_text("no image")
    with pytest.raises(tf.errors.OpError, match=r"later\.png"):
        next(iter(ordered_batches(train, 1)))
    with pytest.raises(ValueError, match=r"Received: .*later\.png"):
        train.array()


@pytest.mark.parametrize("name", [b"2.png", b"caf\xe9 $2.png"])
def test_an_image_lost_while_it_is_read_is_an_error_of_one_line(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    paint(tmp_path / "1.png")
    try:
        paint(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    train = load_folder(tmp_path, 8).train
    path.unlink()
    with pytest.raises(ValueError) as caught, naming_lost_images():
        list(ordered_batches(train, 2))
    shown = str(path).replace("\udce9", r"\udce9")
    assert str(caught.value) == lost([shown])


def test_fingerprints_tell_files_and_their_order_wherever_the_folder_is(tmp_path):
    classes(tmp_path / "here", a=3, b=3)
    train = load_folder(tmp_path / "here", 8).train.images
    digest, part = train.fingerprint(), train.take(np.array([0, 1]))
    assert part.fingerprint() == train.take(np.array([0, 1])).fingerprint()
    assert len({digest, part.fingerprint(), train.take(np.array([1, 0])).fingerprint()}) == 3

    (tmp_path / "here").rename(tmp_path / "there")
    assert load_folder(tmp_path / "there", 8).train.images.fingerprint() == digest
    kept = load_folder(tmp_path / "there", 8).train.labels
    paint(tmp_path / "there" / "b" / "03.png")
    more = load_folder(tmp_path / "there", 8).train
    assert len(more) > len(kept) and more.images.fingerprint() != digest


@pytest.mark.parametrize("name", ["train", "Test"])
def test_a_linked_split_is_refused(tmp_path, name):
    """Otherwise a fifth of the training images, or a class named test, would take its place."""
    root = tmp_path / "data"
    for folder in (root / "train" / "a", root / "test" / "a", tmp_path / "elsewhere" / "a"):
        folder.mkdir(parents=True)
        paint(folder / "0.png")
    shutil.rmtree(root / name.lower())
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"Links to folders are not followed.*Received: .*{name}, a link"):
        load_folder(root, 8)


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    for name in ("a", "b", "b/below"):
        (tmp_path / name).mkdir()
        paint(tmp_path / name / "0.png")
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (note,) = load_folder(tmp_path, 8).notes[:1]
    assert "left out 1 folder that cannot be read" in note and "below" in note


def test_photographs(shared_data):
    if not (shared_data / "scenes").is_dir():
        pytest.skip("no photographs")
    data = load_folder(shared_data / "scenes", 16)
    assert data.class_names == ("buildings", "forest")
    assert (len(data.train), len(data.test)) == (400, 120) and data.notes == ()
    assert data.train.take(np.arange(0, 400, 40)).array().std() > 20
