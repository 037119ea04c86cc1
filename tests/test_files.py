"""Files and folders are written whole or not at all, and errors name them."""

import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest

from simclr_tf import files
from simclr_tf.files import replacing, replacing_folder, write_json, write_text
from tests.conftest import ROOT


def test_text_and_json_round_trip(tmp_path):
    write_text(tmp_path / "plots" / "note.txt", "τ = 0.5\n")
    write_json(tmp_path / "value.json", {"a": [1, None, 0.1]})
    assert (tmp_path / "plots" / "note.txt").read_text(encoding="utf-8") == "τ = 0.5\n"
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": [1, None, 0.1]}


def test_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "note.txt"
    write_text(path, "old")

    def power_cut(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", power_cut)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_a_name_gets_that_of_the_file(tmp_path):
    path = tmp_path / "note.txt"
    with pytest.raises(OSError, match=f"No space left.*{path}"):
        with replacing(path):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_escaped(tmp_path):
    write_text(tmp_path / "notes.txt", "caf\udce9.jpg")
    assert (tmp_path / "notes.txt").read_text() == "caf\\udce9.jpg"


def test_a_folder_is_replaced_whole_or_kept(tmp_path):
    folder = tmp_path / "encoder"
    for name in ("old", "new"):
        with replacing_folder(folder) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    with pytest.raises(RuntimeError, match="half"), replacing_folder(folder) as temporary:
        temporary.mkdir()
        raise RuntimeError("half")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    folder, replace = tmp_path / "encoder", os.replace
    folder.mkdir()
    (folder / "old").touch()

    def fails(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder) as temporary:
        temporary.mkdir()
    assert list(tmp_path.iterdir()) == [folder] and (folder / "old").exists()


def test_several_processes_may_replace_a_folder_at_once(tmp_path):
    program = """
        import sys
        from pathlib import Path
        from simclr_tf.files import replacing_folder
        for number in range(100):
            with replacing_folder(Path(sys.argv[1], "encoder")) as temporary:
                temporary.mkdir()
                for part in ("a", "b", "c"):
                    (temporary / part).write_text(f"{sys.argv[2]} {number}")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("one", "two", "three")]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len({path.read_text() for path in (tmp_path / "encoder").iterdir()}) == 1  # whole: of one process and number
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
