"""What a user sees: each in a process of its own."""

import json
from pathlib import Path

import pytest

from simclr_tf.config import MODES, Config


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
        (
            ["train.py", "--data_service=a..b:5050", "--dataset=records:x", "--image_size=8"],
            "--data_service must be a running",
        ),
        (["train.py", "--dataset=folder"], "--dataset=folder needs --data_dir"),
        (["train.py", "--noblur=1"], "noblur"),
        (["train.py", "--dataset=patterns", "--image_size=100000"], "leave --image_size out"),
        (["train.py", "--dataset=cifar10", "--image_size=64"], "leave --image_size out"),
        (["train.py", "--dataset=folder", "--image_size=32", "--data_dir=nonsense"], "--data_dir must be a folder"),
        (["train.py", "--data_dir=nonsense/x"], "--data_dir must be a folder or an archive"),
        (["train.py", "--run_dir=docs"], "--run_dir is not empty"),
        (["train.py", "--run_dir=docs", "--overwrite"], "--overwrite deletes only the folder of a run"),
        (["train.py", "--encoder=nosuchmod:f"], "--encoder names a module that cannot be found"),
        (["train.py", "--flagfile=recipe:nonsense"], "takes one of cifar10_cpu"),
        (["train.py", "--dataset=patterns", "--on_collapse=stop"], "--on_collapse=stop needs --monitor_every"),
        (["train.py", "--resume"], "--resume needs --run_dir"),
        (["train.py", "--dataset=patterns", "--tpu=mine"], "--tpu goes with --strategy=tpu"),
        (["train.py", "--flagfile=nonsense.cfg"], "nonsense.cfg"),
        (["train.py", "cifar10"], "Expected flags only"),
        (["train.py", "--preview", "--input_report"], "Only one of --preview and --input_report"),
        (["train.py", "--dataset=patterns", "--init_from=nonsense"], "--init_from names weights that are not there"),
        (["train.py", "--flagfile=recipe:cifar10_cpu", "--epochs=2"], "with --epochs=2"),
        (["train.py", "--data_dir=~nobody-of-that-name/cifar"], "Received: '~nobody-of-that-name/cifar'"),
        (["evaluate.py", "--mode=knn"], "--run_dir is needed"),
        (["evaluate.py", "--run_dir=nonsense", "--mode=knn"], "config.json of a run"),
        (["evaluate.py", "--run_dir=~/nonsense", "--mode=knn"], f"{Path.home()}/nonsense/config.json"),
        (["evaluate.py", "--run_dir=~nobody-of-that-name", "--mode=knn"], "~nobody-of-that-name/config.json"),
        (
            ["evaluate.py", "--run_dir=x", "--mode=export", "--baselines"],
            "--baselines has no effect with --mode=export",
        ),
        (["evaluate.py", "--run_dir=x", "--mode=quadratic"], "export|finetune|invariance|knn|linear"),
    ],
)
def test_wrong_flags_are_one_line_before_tensorflow(run_python, without_tensorflow, command, complaint):
    line = only_line(run_python(*command, PYTHONPATH=str(without_tensorflow)))
    assert line.startswith(f"{command[0]}: error: ") and complaint in line


def test_verbosity_shows_where(run_python, without_tensorflow):
    done = run_python("train.py", "--batch_size=0", "--verbosity=1", PYTHONPATH=str(without_tensorflow))
    assert done.returncode == 1 and "Traceback" in done.stderr and "`batch_size` must be at least 2" in done.stderr


def test_the_error_is_the_last_line_of_a_log(run_python):
    """Which studies show as the reason why a trial failed."""
    log = run_python("-c", "import os, flags; os.dup2(1, 2); print('note'); flags._fail('wrong')")
    assert (log.returncode, log.stdout) == (1, "note\n-c: error: wrong\n")


def test_commands_import_tensorflow_without_what_keras_would_like(run_python):
    code = (
        "import sys, flags; flags.import_tensorflow();"
        "assert {'keras', 'keras_cv'} <= set(sys.modules) and not flags.KERAS_WOULD_LIKE & set(sys.modules);"
        "from matplotlib.figure import Figure; from sklearn.linear_model import LogisticRegression"
    )
    result = run_python("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_help_lists_the_flags(run_python, without_tensorflow):
    result = run_python("train.py", "--help", PYTHONPATH=str(without_tensorflow))
    assert result.returncode == 0 and result.stderr == ""
    assert "--batch_size" in result.stdout and "--temperature" in result.stdout
    assert "python train.py --strategy=tpu" in result.stdout


def test_help_and_evaluate_alone_list_the_modes(run_python, without_tensorflow):
    for words, code in ((["--help"], 0), ([], 1)):
        result = run_python("evaluate.py", *words, PYTHONPATH=str(without_tensorflow))
        assert result.returncode == code
        assert all(f"--mode={name:12} {kind.summary}\n" in result.stdout for name, kind in MODES.items())


def test_a_run_without_checkpoint_or_data_is_refused_before_tensorflow(run_python, without_tensorflow, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config.of(dataset="patterns").to_dict()))
    words, environ = ["evaluate.py", f"--run_dir={tmp_path}", "--mode=knn"], {"PYTHONPATH": str(without_tensorflow)}
    assert "no checkpoint yet" in only_line(run_python(*words, **environ))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch-00001.npz").touch()
    for more, complaint in (
        (["--mode=knn", "--dataset=folder"], "--dataset=folder needs --data_dir"),
        (["--mode=knn", "--layer=3"], "--layer must be 0, for h, or one of the projection head's layers 1 to 2"),
        (["--mode=embed", "--images=nonsense"], "Received: nonsense, not there"),
        (["--mode=neighbors", f"--images={tmp_path}", "--among=nonsense"], "Received: nonsense, not there"),
    ):
        assert complaint in only_line(run_python(*words[:2], *more, **environ))
