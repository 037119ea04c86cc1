"""CIFAR: both versions, extracted or archived; damage, downloads and hostile pickles."""

import hashlib
import io
import os
import pickle
import tarfile
import urllib.error

import numpy as np
import pytest

from simclr_tf.data import cifar
from simclr_tf.data.cifar import load_cifar

NAMES = {
    "cifar10": [f"class {i}" for i in range(10)],
    "cifar100": [f"fine{i}" for i in range(100)],
}
FORMS = [(name, form) for name in NAMES for form in ("binary", "python")]


def batches(name):
    """File name without extension -> uint8 (N, 3072) pixels and labels; the test file comes last."""
    rng = np.random.default_rng(0)
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"] if name == "cifar10" else ["train", "test"]
    return {
        file: (rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, len(NAMES[name]), n).tolist())
        for n, file in enumerate(files, start=2)
    }


def binary_files(name):
    files = {"batches.meta.txt" if name == "cifar10" else "fine_label_names.txt": "\n".join(NAMES[name]).encode()}
    for file, (pixels, labels) in batches(name).items():
        columns = np.array(labels, np.uint8)[:, None]
        if name == "cifar100":  # the coarse label first
            columns = np.concatenate([columns // 5, columns], axis=1)
        files[f"{file}.bin"] = np.concatenate([columns, pixels], axis=1).tobytes()
    return files


def text(value):
    """A Python 2 string, as pickled by Python 2."""
    return b"U" + bytes([len(value)]) + value.encode()


def python2_pickle(pixels, labels, key):
    """The very opcodes of the official files: cPickle of Python 2, protocol 2, NumPy 1."""
    rows = len(pixels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R(K\x01"
        b"K" + bytes([rows]) + b"M\x00\x0c\x86cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + (rows * 3072).to_bytes(4, "little")
        + pixels.tobytes() + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text(key) + numbers + b"u."


def python_files(name):
    prefix = "" if name == "cifar10" else "fine_"
    meta = {f"{prefix}label_names": NAMES[name], "num_vis": 3072}
    files = {"batches.meta" if name == "cifar10" else "meta": pickle.dumps(meta, protocol=2)}
    for file, (pixels, labels) in batches(name).items():
        files[file] = python2_pickle(pixels, labels, f"{prefix}labels")
    return files


def folder_of(name, form):
    number = name.removeprefix("cifar")
    return {"binary": {"10": "cifar-10-batches-bin", "100": "cifar-100-binary"},
            "python": {"10": "cifar-10-batches-py", "100": "cifar-100-python"}}[form][number]  # fmt: skip


def files_of(name, form):
    return (binary_files if form == "binary" else python_files)(name)


def write(root, name, form, **changes):
    """Writes the extracted folder; a change is a file's new content, or None to leave it out."""
    folder = root / folder_of(name, form)
    folder.mkdir()
    for file, content in {**files_of(name, form), **changes}.items():
        if content is not None:
            (folder / file).write_bytes(content)
    return folder


def archive(name, form):
    """The official archive, as bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in files_of(name, form).items():
            member = tarfile.TarInfo(f"{folder_of(name, form)}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive_name(name, form):
    return f"cifar-{name.removeprefix('cifar')}-{form}.tar.gz"


def check(data, name):
    """Every pixel and label against the definition: planes of red, green and blue, row by row."""
    *train, test = batches(name).values()
    for split, parts in ((data.train, train), (data.test, [test])):
        pixels = np.concatenate([pixels for pixels, _ in parts])
        assert split.labels.dtype == np.int32
        assert split.labels.tolist() == sum((labels for _, labels in parts), [])
        images = split.array()
        assert images.dtype == np.uint8 and images.shape == (len(pixels), 32, 32, 3)
        for row, column, channel in ((0, 0, 0), (0, 5, 0), (7, 0, 1), (31, 30, 2)):
            expected = pixels[:, channel * 1024 + row * 32 + column]
            np.testing.assert_array_equal(images[:, row, column, channel], expected)
    assert data.name == name and data.class_names == tuple(NAMES[name])


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_extracted_files_are_read_from_their_folder_and_from_the_one_above(tmp_path, name, form):
    folder = write(tmp_path, name, form)
    check(load_cifar(name, folder), name)
    check(load_cifar(name, str(tmp_path)), name)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_archives_are_read_without_being_extracted(tmp_path, name, form):
    path = tmp_path / archive_name(name, form)
    path.write_bytes(archive(name, form))
    check(load_cifar(name, tmp_path), name)
    check(load_cifar(name, path), name)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", NAMES)
def test_both_versions_give_the_same_arrays(tmp_path, name):
    binary, python = (load_cifar(name, write(tmp_path, name, form)) for form in ("binary", "python"))
    for ours, theirs in ((binary.train, python.train), (binary.test, python.test)):
        np.testing.assert_array_equal(ours.array(), theirs.array())
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("protocol", range(5))
def test_a_batch_pickled_again_is_read(tmp_path, protocol):
    pixels, labels = batches("cifar10")["test_batch"]
    content = pickle.dumps({"data": pixels, "labels": labels}, protocol)
    check(load_cifar("cifar10", write(tmp_path, "cifar10", "python", test_batch=content)), "cifar10")


def test_fewer_images_than_official_are_noted(tmp_path):
    notes = load_cifar("cifar100", write(tmp_path, "cifar100", "binary")).notes
    assert notes == (
        "cifar100: 2 training images instead of the official 50000",
        "cifar100: 3 test images instead of the official 10000",
    )


def test_a_missing_training_batch_is_noted(tmp_path):
    data = load_cifar("cifar10", write(tmp_path, "cifar10", "binary", **{"data_batch_3.bin": None}))
    assert len(data.train) == 2 + 3 + 5 + 6
    assert "data_batch_3.bin" in data.notes[0]


def test_missing_names_become_numbers(tmp_path):
    data = load_cifar("cifar10", write(tmp_path, "cifar10", "binary", **{"batches.meta.txt": None}))
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("form", "file", "content", "message"),
    [
        ("binary", "test_batch.bin", None, "needs its file test_batch.bin"),
        ("binary", "data_batch_2.bin", b"x" * 5000, "multiple of 3073 .*data_batch_2.bin, of 5000 bytes"),
        ("binary", "data_batch_2.bin", b"", "data_batch_2.bin, with no images"),
        ("binary", "data_batch_2.bin", b"\x0a" * 3073, "0 to 9. Received: .*data_batch_2.bin, with 10 to 10"),
        ("binary", "batches.meta.txt", b"just one", "names of 10 classes. Received: .*batches.meta.txt"),
        ("python", "data_batch_2", b"no pickle", "Python version. Received: .*data_batch_2"),
        ("python", "data_batch_2", pickle.dumps([1]), "Python version. Received: .*data_batch_2"),
        ("python", "data_batch_2", pickle.dumps({"data": 3}), "shape .*Received: .*data_batch_2"),
        (
            "python",
            "data_batch_2",
            python2_pickle(np.zeros((1, 3072), np.uint8), [200], "labels"),
            "200 to 200",
        ),
        ("python", "data_batch_2", python2_pickle(np.zeros((2, 3072), np.uint8), [1], "labels"), "shape"),
    ],
)
def test_damage_is_named(tmp_path, form, file, content, message):
    folder = write(tmp_path, "cifar10", form, **{file: content})
    with pytest.raises(ValueError, match=message) as error:
        load_cifar("cifar10", folder)
    assert "Received: " in str(error.value)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_cut_archive_is_named(tmp_path, keep):
    content = archive("cifar10", "binary")
    path = tmp_path / archive_name("cifar10", "binary")
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=f"whole .tar.gz archive. Received: .*{path.name}"):
        load_cifar("cifar10", tmp_path)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_hostile_pickles_are_refused_and_not_run(tmp_path, protocol, file):
    proof = tmp_path / "proof"
    content = pickle.dumps({"data": Hostile(os.mkdir, str(proof)), "labels": [1]}, protocol)
    folder = write(tmp_path, "cifar10", "python", **{file: content})
    with pytest.raises(ValueError, match=rf"Received: .*{file} \(it refers to "):
        load_cifar("cifar10", folder)
    assert not proof.exists()
    pickle.loads(content)  # It would have run.
    assert proof.exists()


@pytest.mark.parametrize(
    "value", [Hostile(eval, "1 + 1"), Hostile(getattr, "a", "upper"), np.zeros(2), np.array([{}]), np.float64]
)
def test_anything_but_bytes_and_containers_is_refused(tmp_path, value):
    folder = write(tmp_path, "cifar10", "python", test_batch=pickle.dumps({"data": value}, protocol=2))
    with pytest.raises(ValueError, match="Received: .*test_batch"):
        load_cifar("cifar10", folder)


# --- Downloads ---


class Server:
    """Stands in for urlopen."""

    def __init__(self, content):
        self.content = content
        self.asked = []

    def __call__(self, url, timeout):
        self.asked.append(url)
        if isinstance(self.content, Exception):
            raise self.content
        return io.BytesIO(self.content)


@pytest.fixture
def serve(monkeypatch):
    def start(content, digest=None):
        server = Server(content)
        monkeypatch.setattr(cifar, "urlopen", server)
        if isinstance(content, bytes):
            digest = digest or hashlib.sha256(content).hexdigest()
            monkeypatch.setattr(cifar, "_SHA256", dict.fromkeys(cifar._SHA256, digest))
        return server

    return start


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_or_new_folder_is_downloaded_into_once(tmp_path, serve, name):
    server = serve(archive(name, "binary"))
    for folder in (tmp_path / "new", tmp_path / "new"):
        check(load_cifar(name, folder), name)
    assert server.asked == [cifar.URL + archive_name(name, "binary")]
    assert [path.name for path in folder.iterdir()] == [archive_name(name, "binary")]


def test_without_a_folder_the_cache_is_used(tmp_path, serve, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "deep" / "cache"))
    for name in NAMES:  # The second finds the first one's archive there.
        serve(archive(name, "binary"))
        check(load_cifar(name), name)
    assert len(list((tmp_path / "deep" / "cache" / "simclr_tf").iterdir())) == 2


def test_a_wrong_checksum_leaves_nothing_behind(tmp_path, serve):
    serve(archive("cifar10", "binary"), digest="0" * 64)
    with pytest.raises(ValueError, match="SHA-256 0000.*cifar-10-binary.tar.gz into .* by hand. Received: "):
        load_cifar("cifar10", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("too slow")])
def test_without_a_network_one_line_says_what_to_do(tmp_path, serve, error):
    serve(error)
    with pytest.raises(OSError, match=r"put https://.*cifar-10-binary.tar.gz into .* by hand.*Received: ") as caught:
        load_cifar("cifar10", tmp_path / "new")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_that_breaks_off_leaves_nothing_behind(tmp_path, serve, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise ConnectionResetError("reset")

    monkeypatch.setattr(cifar, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(OSError, match="by hand"):
        load_cifar("cifar10", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_downloaded_among_other_files(tmp_path, serve):
    server = serve(b"")
    (tmp_path / "holiday.jpg").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "holiday.jpg", tmp_path / "absent" / "deeper"):
        with pytest.raises(ValueError, match=r"must hold cifar10 as one of .* Received: "):
            load_cifar("cifar10", folder)
    assert server.asked == []


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Received: 'cifar1000'"):
        load_cifar("cifar1000")


def test_real_images(shared_data):
    data = load_cifar("cifar10", shared_data)
    assert (len(data.train), len(data.test)) == (10_000, 2_000) and len(data.notes) == 2
    assert data.class_names[:2] == ("airplane", "automobile")
    # Neighboring pixels of photographs are alike: a wrong order of the axes would show.
    images = data.test.array()[:200].astype(int)
    unlike = np.abs(np.roll(images, 7, axis=0) - images).mean()
    assert max(np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2)) < unlike / 3
    assert np.abs(np.diff(images, axis=3)).mean() < unlike / 3


def test_an_archive_does_not_unpack_to_more_than_cifar_has(tmp_path, monkeypatch):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = 5000
        tar.addfile(member, io.BytesIO(bytes(5000)))
    monkeypatch.setattr(cifar, "_LARGEST", 4999)
    with pytest.raises(ValueError, match="whole .tar.gz archive.*data_batch_1.bin of 5000 bytes"):
        load_cifar("cifar10", archive)
