"""Chooses the faster of two precisions that learn equally well, by what the hardware supports."""

from pathlib import Path

import tensorflow as tf

from simclr_tf.distribution.strategy import devices

# What Linux calls the instructions: two extensions of x86, and Arm's.
_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def best_precision(strategy: tf.distribute.Strategy) -> tuple[str, str]:
    """mixed_bfloat16 where the devices have instructions for bfloat16, else float32.

    Float16 is never chosen: it is no faster where there is bfloat16, and needs its loss scaled.

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
    if found:
        return "mixed_bfloat16", f"this CPU has {found[0]}"
    return "float32", f"this CPU has none of {', '.join(_CPU_FLAGS)}"
