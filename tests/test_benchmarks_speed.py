import pytest

import simclr_tf.quiet  # noqa: F401, I001
from benchmarks import kernels, quick
from simclr_tf.networks import make_encoder


def test_operations_of_a_resnet18_are_those_of_its_layers_by_hand():
    # Multiplications and additions a 32 x 32 image: He et al., 2015, table 1, with CIFAR's stem of 3 x 3 and no pooling.
    stem = 32 * 32 * 9 * 3 * 64
    stage1 = 4 * 32 * 32 * 9 * 64 * 64
    others = sum(
        side**2 * (9 * wide // 2 * wide + 3 * 9 * wide * wide + wide // 2 * wide)
        for side, wide in ((16, 128), (8, 256), (4, 512))
    )
    encoder = make_encoder("resnet18", (32, 32, 3), 1.0, "auto")
    # The stem's images have no gradient, so it is computed twice and not three times.
    assert kernels.flops(encoder, 5) == 2 * 5 * (2 * stem + 3 * (stage1 + others))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_of_an_encoder_run_alone(precision):
    encoder = make_encoder("resnet18", (8, 8, 3), 0.0625, "auto")
    found = kernels.convolutions(encoder)
    assert sum(found.values()) == 20
    assert kernels.seconds(encoder, 2, precision, runs=1) > 0


def test_a_ratio_above_its_bound_is_told():
    found = {"float32": {"step": 1.30, "views": 0.05}, "bfloat16": {"step": 1.0}}
    bounds = {"float32": {"step": 1.29, "views": 0.05}}
    verdicts = {row[""]: row["verdict"] for row in quick.rows(found, bounds)}
    assert verdicts == {"step, float32": "ABOVE 1.29", "views, float32": "within 0.05", "step, bfloat16": "not judged"}


@pytest.mark.slow
def test_a_slower_step_is_noticed(run_python):
    if quick.processor() not in quick.BOUNDS.read_text():
        pytest.skip("no bounds are kept for this processor")
    assert run_python("-m", "benchmarks.quick").returncode == 0
    slower = run_python("-m", "benchmarks.quick", "--slower=1.3")
    assert slower.returncode == 1 and "ABOVE" in slower.stdout
