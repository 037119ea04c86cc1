"""What `--precision=auto` takes, and that it says why."""

import pytest
import tensorflow as tf

from simclr_tf import distribution
from simclr_tf.distribution import precision as module

SLOWER = "but, as one of Intel's without amx_bf16, is slower in bfloat16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512f avx512_bf16 rdpid", ("mixed_bfloat16", "this CPU has avx512_bf16")),
        ("vendor_id : GenuineIntel flags : avx512_bf16 amx_bf16", ("mixed_bfloat16", "this CPU has amx_bf16")),
        ("vendor_id : GenuineIntel flags : avx512_bf16", ("float32", f"this CPU has avx512_bf16 {SLOWER}")),
        ("vendor_id : GenuineIntel flags : avx512f", ("float32", "this CPU has none of amx_bf16, avx512_bf16, bf16")),
        ("flags : amx_bf16", ("mixed_bfloat16", "this CPU has amx_bf16")),
        ("Features : fp asimd bf16", ("mixed_bfloat16", "this CPU has bf16")),
        ("flags : fpu avx512f", ("float32", "this CPU has none of amx_bf16, avx512_bf16, bf16")),
        (None, ("float32", "this CPU has none of amx_bf16, avx512_bf16, bf16")),
    ],
)
def test_a_cpu(tmp_path, monkeypatch, flags, expected):
    path = tmp_path / "cpuinfo"
    if flags:
        path.write_text(flags)
    monkeypatch.setattr(module, "Path", lambda name: path)
    monkeypatch.setattr(module, "devices", lambda strategy: ["/device:CPU:0"])
    assert distribution.best_precision(tf.distribute.get_strategy()) == expected


@pytest.mark.parametrize(
    ("capabilities", "policy", "words"),
    [([(8, 0)], "mixed_bfloat16", "8.0, has tensor cores"), ([(9, 0), (7, 5)], "float32", "7.5, has no tensor cores")],
)
def test_gpus(monkeypatch, capabilities, policy, words):
    monkeypatch.setattr(module, "devices", lambda strategy: ["/device:GPU:0"])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda capability: {"compute_capability": capability}
    )
    found, reason = distribution.best_precision(tf.distribute.get_strategy())
    assert found == policy and words in reason


def test_a_tpu(monkeypatch):
    monkeypatch.setattr(module, "devices", lambda strategy: ["/job:worker/replica:0/task:0/device:TPU:0"])
    assert distribution.best_precision(tf.distribute.get_strategy())[0] == "mixed_bfloat16"


@pytest.mark.slow
def test_a_run_says_what_it_took_and_goes_on_with_it(run_python, tmp_path):
    flags = ["--dataset=patterns", "--encoder=resnet18", "--width=0.0625", "--batch_size=32", "--epochs=1",
             "--precision=auto", f"--run_dir={tmp_path / 'run'}", "--resume"]  # fmt: skip
    first = run_python("train.py", *flags, "--max_steps=2")
    assert first.returncode == 0, first.stderr
    taken, reason = distribution.best_precision(tf.distribute.get_strategy())
    assert f"note     precision={taken}: {reason}\n" in first.stdout
    assert f"--precision={taken}\n" in (tmp_path / "run" / "flags.txt").read_text()
    again = run_python("train.py", *flags, "--max_steps=3")
    assert again.returncode == 0, again.stderr
