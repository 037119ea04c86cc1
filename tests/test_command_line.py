"""What a user sees: each in a process of its own."""

import pytest


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory):
    """A folder to put on PYTHONPATH, with which importing TensorFlow fails."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')\n")
    return folder


def only_line(result):
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["train.py", "--batch_sise=3"], "Unknown command line flag 'batch_sise'. Did you mean: batch_size"),
        (["train.py", "--batch_size=x"], "--batch_size=x"),
        (["train.py", "--batch_size=0"], "--batch_size must be at least 2"),
        (["train.py", "--encoder=resnet19"], "resnet18, resnet34"),
        (["train.py", "--temperature=nan"], "--temperature must be a finite number"),
        (["train.py", "--dataset=folder"], "--dataset=folder needs --data_dir"),
        (["train.py", "--warmup_epochs=20", "--epochs=10"], "--warmup_epochs"),
        (["train.py", "--resume"], "--resume needs --run_dir"),
        (["train.py", "--flagfile=nonsense.cfg"], "nonsense.cfg"),
        (["train.py", "cifar10"], "Expected flags only"),
        (["evaluate.py"], "--run_dir is needed"),
        (["evaluate.py", "--run_dir=nonsense"], "config.json of a run"),
        (["evaluate.py", "--run_dir=x", "--mode=quadratic"], "export|knn|linear"),
    ],
)
def test_wrong_flags_are_one_line_before_tensorflow(run_python, without_tensorflow, command, complaint):
    line = only_line(run_python(*command, PYTHONPATH=str(without_tensorflow)))
    assert line.startswith(f"{command[0]}: error: ") and complaint in line


def test_help_lists_the_flags(run_python, without_tensorflow):
    result = run_python("train.py", "--help", PYTHONPATH=str(without_tensorflow))
    assert "--batch_size" in result.stdout and "--temperature" in result.stdout
    assert "python train.py --strategy=tpu" in result.stdout


def test_tpu_without_one(run_python):
    line = only_line(run_python("train.py", "--strategy=tpu", "--batch_size=1024"))
    assert "requirements-tpu.txt" in line and "--tpu" in line


def test_nothing_is_written_when_the_data_is_wrong(run_python, tmp_path):
    line = only_line(
        run_python("train.py", f"--data_dir={tmp_path / 'a' / 'b'}", f"--run_dir={tmp_path / 'run'}"),
    )
    assert "data_dir" in line and not (tmp_path / "run").exists()


def test_foreign_folder_is_left_alone(run_python, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    line = only_line(run_python("train.py", "--dataset=patterns", f"--run_dir={tmp_path}", "--overwrite"))
    assert "--overwrite" in line and (tmp_path / "thesis.tex").read_text() == "precious"
