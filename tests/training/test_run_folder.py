"""Tests of the run folder: nobody's files are lost, and no two processes write into one."""

import fcntl
import json
import os
import re
import subprocess

import pytest

from simclr_tf import files
from simclr_tf.config import Config
from simclr_tf.training import metrics, run_folder
from simclr_tf.training.run_folder import open_run_dir

RUN = json.dumps({"training": {}, "hardware": {}, "output": {}})


def locked(folder):
    """Whether another process could not have the folder."""
    with (folder / files.LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def make_run(folder):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "epoch-00001.npz").write_text("weights")
    (folder / "config.json").write_text(RUN)
    return folder


def test_default_folder_carries_date_and_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (open_run_dir(None, "cifar10-resnet18", overwrite=False, resume=False) for _ in range(2))
    assert re.fullmatch(r"runs/\d{8}-\d{6}-cifar10-resnet18", first.as_posix())
    assert first != second and first.is_dir() and second.is_dir()
    assert locked(first)
    files.release(first)
    assert not locked(first) and locked(second)


@pytest.mark.parametrize("overwrite", [False, True])
def test_new_and_empty_folders_are_opened(tmp_path, overwrite):
    path = tmp_path / "a" / "b"
    for _ in range(2):
        assert open_run_dir(str(path), "x", overwrite=overwrite, resume=False) == path
    assert path.is_dir()


def test_a_run_may_begin_where_a_preview_was_drawn(tmp_path):
    for name in run_folder.PREVIEW:
        (tmp_path / name).write_text("a picture")
    assert open_run_dir(str(tmp_path), "x", overwrite=False, resume=False) == tmp_path
    assert (tmp_path / "views.png").exists()


def test_used_folder_is_refused_and_left_alone(tmp_path):
    make_run(tmp_path)
    with pytest.raises(ValueError, match=f"`resume`.*`overwrite`.*Received: {tmp_path}$"):
        open_run_dir(str(tmp_path), "x", overwrite=False, resume=False)
    assert (tmp_path / "checkpoints" / "epoch-00001.npz").exists()


def test_resume_keeps_everything(tmp_path):
    make_run(tmp_path)
    assert open_run_dir(str(tmp_path), "x", overwrite=False, resume=True) == tmp_path
    assert (tmp_path / "config.json").read_text() == RUN
    assert (tmp_path / "checkpoints" / "epoch-00001.npz").exists()


def test_overwrite_empties_a_run_but_not_what_it_links_to(tmp_path):
    folder = make_run(tmp_path / "run")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    (folder / "link").symlink_to(precious)
    assert open_run_dir(str(folder), "x", overwrite=True, resume=False) == folder
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert (precious / "thesis.tex").exists()


@pytest.mark.parametrize("config", [None, "not json", "[]", '{"model_type": "bert"}'])
def test_overwrite_never_deletes_what_is_no_run(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=f"no config.json of a run.*Received: {tmp_path}$"):
        open_run_dir(str(tmp_path), "x", overwrite=True, resume=False)
    assert (tmp_path / "thesis.tex").exists()


def test_resume_does_not_begin_a_run_among_other_files(tmp_path):
    """`overwrite` would take the folder for that of a run, and delete them."""
    (tmp_path / ".config.json.tmp").touch()  # of a run that was killed as it began
    assert open_run_dir(str(tmp_path), "x", overwrite=False, resume=True) == tmp_path
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=f"no config.json of a run: name another folder. Received: {tmp_path}$"):
        open_run_dir(str(tmp_path), "x", overwrite=False, resume=True)


@pytest.mark.parametrize("epochs, max_steps, done", [(3, None, True), (4, None, False), (4, 12, True), (4, 13, False)])
def test_a_run_is_complete_after_its_last_epoch_or_step(tmp_path, epochs, max_steps, done):
    (record := tmp_path / "linear.json").touch()
    assert not run_folder.complete(tmp_path, record)
    settings = Config.of(epochs=epochs, max_steps=max_steps, warmup_epochs=1).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    columns = (*metrics.FIRST, *metrics.LAST)
    metrics.write_rows(tmp_path / "metrics.csv", columns, [dict.fromkeys(columns) | {"epoch": 3, "step": 12}])
    os.utime(record, (1, 1))
    assert not run_folder.complete(tmp_path, record)  # which is older than the log
    record.touch()
    assert run_folder.complete(tmp_path, record) == done


@pytest.mark.parametrize("overwrite, resume", [(False, False), (True, False), (False, True)])
def test_file_in_the_way_is_refused(tmp_path, overwrite, resume):
    path = tmp_path / "run"
    path.write_text("mine")
    with pytest.raises(ValueError, match=f"must be a folder.*Received: {path}$"):
        open_run_dir(str(path), "x", overwrite=overwrite, resume=resume)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_check_refuses_what_opening_would_and_changes_nothing(tmp_path, overwrite):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="overwrite"):
        run_folder.check(tmp_path, overwrite, resume=False)
    run_folder.check(tmp_path / "new", overwrite, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_is_open_to_one_process_and_reopened_by_it(tmp_path, run_python):
    code = "import sys; from simclr_tf.training.run_folder import open_run_dir; open_run_dir(sys.argv[1], 'x', 0, 1)"
    open_run_dir(str(tmp_path), "x", overwrite=False, resume=True)
    open_run_dir(str(tmp_path), "x", overwrite=False, resume=True)
    other = run_python("-c", code, tmp_path)
    assert (
        f"Another process is training in this `run_dir`: wait for it or name another folder. Received: {tmp_path}"
        in (other.stderr)
    )
    assert run_python("-c", code, tmp_path / "other").returncode == 0


def test_a_deleted_run_is_noticed(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"deleted or moved.*Received: {tmp_path}$"):
        run_folder.require(tmp_path)
    run_folder.require(make_run(tmp_path / "run"))


def test_environment_is_json_and_names_versions_and_devices(tmp_path):
    found = run_folder.environment()
    assert json.loads(json.dumps(found)) == found
    assert set(found["packages"]) == set(run_folder.PACKAGES) and found["packages"]["keras"].startswith("3.")
    assert any("CPU" in name for name in found["devices"]["physical"])
    assert any("CPU" in name for name in found["devices"]["logical"])
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]", found["started"])


def test_missing_package_has_no_version(monkeypatch):
    monkeypatch.setattr(run_folder, "PACKAGES", ("no-such-package-of-any-name",))
    assert run_folder.environment()["packages"] == {"no-such-package-of-any-name": None}


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    # Without GIT_DIR, with which these commands would commit to the repository whose hook runs the tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout


def test_source_is_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    source = tmp_path / "run_dir.py"
    source.write_text("1")
    monkeypatch.setattr(run_folder, "__file__", str(source))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "that of a hook"))
    assert run_folder.environment()["source"] == {"commit": None, "dirty": None}
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "something else")
    assert run_folder.environment()["source"] == {"commit": None, "dirty": None}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "ours")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert run_folder.environment()["source"] == {"commit": commit, "dirty": False}
    source.write_text("2")
    assert run_folder.environment()["source"] == {"commit": commit, "dirty": True}


def test_source_is_unknown_without_git(monkeypatch):
    def absent(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(run_folder.subprocess, "run", absent)
    assert run_folder.environment()["source"] == {"commit": None, "dirty": None}
