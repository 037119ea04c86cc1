"""What a step's time went into, in words."""

import re

import pytest

from simclr_tf.training.profile import in_words


def test_kernels_are_told_by_kind_and_their_callers_are_not_counted():
    events = [
        ("simclr/conv_1/convolution/Conv2DBackpropFilter:_MklNativeConv2DBackpropFilter", 3.0),
        ("simclr/conv_1/convolution:_MklNativeConv2D", 1.0),
        ("gradient_tape/simclr/conv_2/weight_gradient_1/Conv2D:_MklNativeConv2D", 1.0),
        ("simclr/bn/FusedBatchNormV3:_MklNativeFusedBatchNormV3", 2.0),
        ("CpuExecutable::ExecuteAsyncOnStream", 2.0),
        ("simclr/relu:Relu", 2.0),
        ("simclr/tiny:Mul", 0.01),
        ("ExecutorState::Process", 100.0),
        ("EagerLocalExecute: __inference_train_step_1", 100.0),
        ("train_step", 100.0),
    ]
    assert in_words(events) == (
        "of the kernels on the CPU, weight gradients of convolutions 36 %, everything else 18 %, batch norm 18 %, "
        "augmentation and the rest that XLA compiles 18 %, convolutions 9 %"
    )
    assert in_words([]) == "no kernels ran on the CPU"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "line"),
    [
        (
            20,
            r"^profile  \d\.\d{3} s a step; of the kernels on the CPU, .*convolutions.*; the trace is .*\.xplane\.pb$",
        ),
        (8, r"^profile  \d\.\d{3} s a step; "),
        (2, r"^note     profile: nothing was traced"),
    ],
)
def test_a_run_is_profiled(run_python, tmp_path, steps, line):
    flags = ["--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=32", f"--max_steps={steps}"]
    done = run_python("train.py", *flags, "--profile", f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert re.search(line, done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_a_run_that_goes_on_at_the_end_of_an_epoch_is_profiled_in_the_next(run_python, tmp_path):
    flags = ["train.py", "--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=512", "--epochs=3",
             f"--run_dir={tmp_path / 'run'}", "--resume"]  # fmt: skip
    assert run_python(*flags, "--max_steps=6").returncode == 0  # of 8 in an epoch
    done = run_python(*flags, "--profile")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nprofile  ") == 1 and "note     profile" not in done.stdout
