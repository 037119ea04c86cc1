"""The lowered step: what its description promises, and the way back; running it needs JAX."""

import itertools
import json
import re

import numpy as np
import pytest

from benchmarks import gpu_bundle
from simclr_tf import encoders
from simclr_tf._compat import HAS_XLA
from simclr_tf.training import checkpoints, metrics

FLAGS = "--dataset=patterns --encoder=resnet18 --width=0.0625 --batch_size=32 --epochs=3 --warmup_epochs=1".split()
HEADER = (
    "HloModule step, input_output_alias={ {2}: (1, {}, may-alias), {1}: (3, {}, may-alias) }, "
    "entry_computation_layout={(u8[32,8,8,3]{3,2,1,0}, f32[4]{0}, /*index=2*/f32[], s64[])->(f32[], s64[], f32[4]{0})}\n"
)


def test_description_follows_the_header():
    found = gpu_bundle.describe(HEADER, ["kernel", "rate", "iteration"], ["loss"])
    assert [tuple(parameter.values()) for parameter in found["parameters"]] == [
        ("images", "images", [32, 8, 8, 3], "uint8"), ("variable", "kernel", [4], "float32"),
        ("variable", "rate", [], "float32"), ("variable", "iteration", [], "int64"),
    ]  # fmt: skip
    assert found["outputs"] == [
        {"kind": "metric", "name": "loss"}, {"kind": "variable", "parameter": 3}, {"kind": "variable", "parameter": 1},
    ]  # fmt: skip


@pytest.mark.parametrize(("paths", "metrics"), [(["kernel"], ["loss"]), (["a", "b", "c"], ["loss", "entropy"])])
def test_other_parameters_or_outputs_are_refused(paths, metrics):
    with pytest.raises(ValueError, match="Expected"):
        gpu_bundle.describe(HEADER, paths, metrics)


def test_order_is_a_permutation_an_epoch_and_can_be_entered_anywhere():
    whole = [index.tolist() for index in itertools.islice(gpu_bundle.batches(70, 32, 0), 6)]
    for epoch in range(3):
        assert len({*whole[2 * epoch], *whole[2 * epoch + 1]}) == 64
    assert whole[0] != whole[2]
    for start in range(5):
        assert next(gpu_bundle.batches(70, 32, 0, start)).tolist() == whole[start]


def test_plugins_get_no_copies():
    text = '%3 = mhlo.copy %2 : tensor<3x4xf32> loc(#loc1)\n%4 = "mhlo.copyright"(%3)\n'
    assert gpu_bundle.without_copies(text).splitlines() == [
        "%3 = stablehlo.reshape %2 : (tensor<3x4xf32>) -> tensor<3x4xf32> loc(#loc1)", '%4 = "mhlo.copyright"(%3)',
    ]  # fmt: skip


def logged(step, steps, loss, **more):
    return {"step": step, "steps": steps, "entropy": 0.0, "loss": loss, "skipped": 0.0, **more}


def test_metrics_are_means_over_the_steps_of_finished_epochs():
    rows = [
        logged(3, 3, 4.0, images_per_second=100.0), logged(4, 1, 8.0),  # where a piece of the run ended
        logged(8, 4, 3.0, images_per_second=50.0), logged(9, 1, 1.0),
    ]  # fmt: skip
    assert gpu_bundle.epochs(rows, 4, float) == [
        {"epoch": 1, "step": 4, "loss": 5.0, "entropy": 0.0, "learning_rate": 3.0, "images_per_second": 100.0},
        {"epoch": 2, "step": 8, "loss": 3.0, "entropy": 0.0, "learning_rate": 7.0, "images_per_second": 50.0},
    ]
    assert gpu_bundle.epochs(rows[:1], 4, float) == gpu_bundle.epochs([], 4, float) == []
    assert list(gpu_bundle.epochs(rows, 4, float)[0])[2:4] == ["loss", "entropy"]
    pieces = [logged(2, 2, 1.0, images_per_second=100.0), logged(4, 2, 1.0, images_per_second=50.0)]
    assert gpu_bundle.epochs(pieces, 4, float)[0]["images_per_second"] == pytest.approx(4 / (2 / 100 + 2 / 50))


@pytest.mark.skipif(not HAS_XLA, reason="no XLA for this CPU")
@pytest.mark.slow
def test_there_and_back(tmp_path, run_python):
    bundle = tmp_path / "bundle"
    words = [*FLAGS, "--resolutions=16,16,24"]
    done = run_python("-m", "benchmarks.gpu_bundle", "lower", f"--bundle={bundle}", "--", *words)
    assert done.returncode == 0, done.stderr
    steps = len(np.load(bundle / "images.npy")) // 32
    parts = json.loads((bundle / "bundle.json").read_text())["parts"]
    assert parts == [{"folder": "16", "last_step": 2 * steps}, {"folder": "24", "last_step": 3 * steps}]
    spec, other = (json.loads((bundle / part["folder"] / "step.json").read_text()) for part in parts)
    assert spec == other
    first, *variables = spec["parameters"]
    assert first["shape"] == [32, *np.load(bundle / "images.npy").shape[1:]]
    names = [variable["name"] for variable in variables]
    assert "stem_conv/kernel" in names and "lars/iteration" in names and len(set(names)) == len(names)
    # Everything that is trained comes back, and each variable from one output at most.
    updated = [output["parameter"] for output in spec["outputs"] if output["kind"] == "variable"]
    assert len(set(updated)) == len(updated) and set(updated) <= set(range(1, len(names) + 1))
    assert {n for n in names if re.search("kernel|gamma|beta|momentum|moving|iteration", n)} <= {
        names[number - 1] for number in updated
    }

    (bundle / "out").mkdir()
    with np.load(bundle / "variables.npz") as initial:
        arrays = {f"p{i}": initial[f"p{i}"] for i in range(1, len(names) + 1)}
    for number, variable in enumerate(variables, 1):
        assert (list(arrays[f"p{number}"].shape), arrays[f"p{number}"].dtype) == (variable["shape"], variable["dtype"])
    kernel = names.index("stem_conv/kernel") + 1
    arrays[f"p{kernel}"] = arrays[f"p{kernel}"] + 1
    np.savez(bundle / "out" / "state.npz", step=steps + 3, **arrays)
    rows = [logged(steps, steps, 3.5), logged(steps + 3, 3, 3.0), logged(2 * steps, steps - 3, 2.5)]  # the last too far
    (bundle / "out" / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    gpu_bundle.restore(bundle)
    assert checkpoints.loaded(bundle / "checkpoints").position == (1, 3)
    (row,) = metrics.read_rows(bundle / "metrics.csv")
    assert (row["epoch"], row["step"], row["loss"]) == (1, steps, 3.5) and row["learning_rate"] > 0
    weights = {variable.path: variable.numpy() for variable in encoders.load_encoder(bundle).variables}
    for path, value in weights.items():
        np.testing.assert_array_equal(value, arrays[f"p{names.index(path) + 1}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--epochs=3", "data_dir=x", "--seed=1"],
            "Expected the flags of train.py after --. Received: data_dir=x",
        ),
        (["--batch_size=0"], "--batch_size must be at least 2. Received: 0"),
        (["--batch_sise=3"], "Unknown command line flag 'batch_sise'"),
    ],
)
def test_what_train_py_would_not_take_is_refused(words, message, run_python, tmp_path):
    done = run_python("-m", "benchmarks.gpu_bundle", "lower", f"--bundle={tmp_path / 'b'}", "--", *words)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "b").exists()
