"""Headers instead of decoding: what is read, what is remembered, and what is found out about damaged files."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from simclr_tf.data import manifest
from simclr_tf.data.manifest import inspect, look


@pytest.fixture
def files(tmp_path):
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (10 + number, 20)).save(paths[-1])
    return paths


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache that small folders use, too."""
    monkeypatch.setattr(manifest, "WORTH_KEEPING", 1)
    return tmp_path / "cache" / "m.npz"


def test_sizes_are_those_of_the_image_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg")
    found = inspect([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")])
    assert found.shapes.tolist() == [[30, 20], [20, 30]] and found.orientations.tolist() == [6, 1]


@pytest.mark.parametrize("kind", ["bmp", "gif", "jpg", "png", "webp"])
def test_a_truncated_file_is_found_by_its_end(tmp_path, kind):
    file = tmp_path / f"a.{kind}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    assert isinstance(look(str(file)), tuple)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert isinstance(look(str(file)), str)


def test_what_cameras_add_behind_an_image_does_no_harm(tmp_path):
    file = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(file)
    file.write_bytes(file.read_bytes() + b"\x00" * 500)
    assert look(str(file)) == (20, 30, 1)


def test_a_palette_in_a_bmp_file_is_named(tmp_path):
    Image.new("P", (8, 8)).save(tmp_path / "a.bmp")
    assert "palette" in look(str(tmp_path / "a.bmp"))


def noise(mode="RGB", side=8):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, *channels), np.uint8))


def test_what_tensorflow_does_not_decode_is_named(tmp_path):
    """Each of these is a file that Pillow reads."""
    noise().save(tmp_path / "padded.bmp")
    (tmp_path / "padded.bmp").write_bytes((tmp_path / "padded.bmp").read_bytes() + b"\0\0")
    noise().save(tmp_path / "animated.webp", save_all=True, append_images=[noise().rotate(90)], lossless=True)
    content = io.BytesIO()
    noise("L", 4).save(content, "GIF")
    screen = bytearray(content.getvalue())
    screen[6:10] = (8).to_bytes(2, "little") * 2  # larger than its frame
    (tmp_path / "part.gif").write_bytes(screen)
    for name, words in (
        ("padded.bmp", "after its pixels"),
        ("animated.webp", "an animated"),
        ("part.gif", "first frame"),
    ):
        Image.open(tmp_path / name).load()
        assert words in look(str(tmp_path / name)), name
    noise().save(tmp_path / "still.webp", lossless=True)
    noise("L").save(tmp_path / "gray.bmp")
    noise("RGBA").save(tmp_path / "alpha.bmp")
    assert all(look(str(tmp_path / name)) == (8, 8, 1) for name in ("still.webp", "gray.bmp", "alpha.bmp"))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_pixels_count_where_the_exif_block_is_damaged(tmp_path, kind):
    noise().save(tmp_path / f"a.{kind}", exif=b"Exif\0\0no TIFF header")
    with pytest.raises(SyntaxError):
        Image.open(tmp_path / f"a.{kind}").getexif()
    assert look(str(tmp_path / f"a.{kind}")) == (8, 8, 1)


def test_sixteen_bits_in_a_bmp_file_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    assert look(str(tmp_path / "a.bmp")) == (8, 8, 1)
    content[28] = 16
    (tmp_path / "a.bmp").write_bytes(content)
    assert "16 bits" in look(str(tmp_path / "a.bmp"))


def test_headers_are_read_once_and_again_when_a_file_changes(files, kept, monkeypatch):
    seen = []
    monkeypatch.setattr(manifest, "look", lambda path: seen.append(path) or look(path))
    first = inspect(files, kept)
    assert seen == files
    again = inspect(files, kept)
    assert seen == files
    np.testing.assert_array_equal(first.shapes, again.shapes)
    Image.new("RGB", (99, 20)).save(files[2])
    os.remove(files[5])
    changed = inspect(files[1:], kept)
    assert seen[6:] == [files[2], files[5]]
    assert changed.shapes[:4].tolist() == [[20, 11], [20, 99], [20, 13], [20, 14]] and set(changed.faults) == {files[5]}
    assert inspect(files[1:], kept).faults == changed.faults and seen[8:] == []


def test_what_is_not_in_the_file_is_not_remembered(files, kept, monkeypatch):
    """Permissions change without the file's size and time."""
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied", files[0])))
    assert len(inspect(files, kept).faults) == 6
    monkeypatch.undo()
    monkeypatch.setattr(manifest, "WORTH_KEEPING", 1)
    assert inspect(files, kept).faults == {}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_cache_is_made_again(files, kept, content):
    kept.parent.mkdir()
    kept.write_bytes(content)
    expected = inspect(files)
    np.testing.assert_array_equal(inspect(files, kept).shapes, expected.shapes)
    assert len(kept.read_bytes()) > len(content)


def test_a_cache_with_fewer_rows_than_names_is_made_again(files, kept):
    inspect(files, kept)
    with np.load(kept) as columns:
        broken = {name: columns[name] for name in columns.files}
    broken["shapes"] = broken["shapes"][:2]
    file = io.BytesIO()
    np.savez(file, **broken)
    kept.write_bytes(file.getvalue())
    assert inspect(files, kept).shapes.tolist() == inspect(files).shapes.tolist()


def test_without_a_place_to_write_it_is_read_each_time(files, kept):
    kept.parent.write_text("a file where the folder should be")
    assert len(inspect(files, kept).paths) == 6


def test_few_files_leave_no_cache(files, tmp_path):
    inspect(files, tmp_path / "cache.npz")
    assert not (tmp_path / "cache.npz").exists()


def test_names_that_are_no_text_are_kept(tmp_path, kept):
    name = os.path.join(os.fsencode(tmp_path), b"\xff\n\xfe.png")
    with open(name, "wb") as file:
        Image.new("RGB", (5, 7)).save(file, "PNG")
    path = os.fsdecode(name)
    assert inspect([path], kept).shapes.tolist() == inspect([path], kept).shapes.tolist() == [[7, 5]]
