"""Chooses the faster of two precisions that learn equally well, by what the hardware supports."""

from pathlib import Path

import tensorflow as tf

from simclr_tf.distribution.strategy import devices

# What Linux calls the instructions: two extensions of x86, and Arm's.
_CPU_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")


def best_precision(strategy: tf.distribute.Strategy) -> tuple[str, str]:
    """mixed_bfloat16 where the devices are faster in it, else float32.

    AMD's CPUs with AVX-512 BF16 are, and Intel's only with AMX, which virtual machines often hide: on a Xeon without it
    the same convolutions take up to 1.9 times as long as in float32 (docs/results/speed.md). Float16 is never chosen: it is
    no faster where there is bfloat16, and needs its loss scaled.

    Returns:
        Dtype policy, and the reason in words.
    """
    kind = tf.DeviceSpec.from_string(devices(strategy)[0]).device_type
    if kind == "TPU":
        return "mixed_bfloat16", "a TPU multiplies in bfloat16"
    if kind == "GPU":
        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        known = [each.get("compute_capability", (0, 0)) for each in details]
        capability = ".".join(map(str, min(known)))
        if min(known) >= (8, 0):  # https://docs.nvidia.com/cuda/ampere-tuning-guide
            return "mixed_bfloat16", f"this GPU, of compute capability {capability}, has tensor cores for bfloat16"
        return "float32", f"this GPU, of compute capability {capability}, has no tensor cores for bfloat16"
    path = Path("/proc/cpuinfo")
    words = set(path.read_text().split()) if path.exists() else set()
    found = [flag for flag in _CPU_FLAGS if flag in words]
    if "GenuineIntel" in words and found == ["avx512_bf16"]:
        return "float32", "this CPU has avx512_bf16 but, as one of Intel's without amx_bf16, is slower in bfloat16"
    if found:
        return "mixed_bfloat16", f"this CPU has {found[0]}"
    return "float32", f"this CPU has none of {', '.join(_CPU_FLAGS)}"
