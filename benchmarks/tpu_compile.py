"""Compiles the paper's train step for TPUs with the real TPU compiler, on a machine without a TPU.

    python3 -m venv ../xla && ../xla/bin/pip install "jax[tpu]"
    python -m benchmarks.tpu_compile --jax_python=../xla/bin/python

TensorFlow lowers the complete step of one replica (two views, ResNet, head, NT-Xent, LARS) to StableHLO, and JAX's
compile-only client hands it to libtpu. Nothing is run. JAX has an environment of its own, because its libtpu is newer
than the one TensorFlow works with. Compiling takes minutes of a CPU core for each chip and precision.

The lower bound is the time that the chip cannot beat: the compiler's count of FLOPs over the chip's peak, or its count of
bytes over the memory's bandwidth, whichever is longer. It is not an estimate.
"""

import json
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness

# topology: (chip, bfloat16 TFLOP/s, GB/s and GiB of memory a chip), from https://cloud.google.com/tpu/docs/v5e, /v4, /v6e
CHIPS = {
    "v5e:2x2": ("v5e", 197, 819, 16),
    "v4:2x2x1": ("v4", 275, 1200, 32),
    "v6e:2x2": ("v6e", 918, 1638, 32),
}
PRECISIONS = ("float32", "mixed_bfloat16")
COLUMNS = {
    "chip": "", "precision": "", "GiB": ".1f", "of": "d", "TFLOP": ".2f", "GB": ".1f", "at least, ms": ".0f",
    "bound by": "", "compiled in s": ".0f",
}  # fmt: skip


def lower(precision: str, encoder: str, batch: int, size: int) -> str:
    """The train step of one replica as StableHLO."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.config import Config
    from simclr_tf.optimizers import LARS
    from simclr_tf.tasks.pretrain import build_model

    model = build_model(Config.of(blur=True, encoder=encoder, precision=precision), (size, size, 3))
    optimizer = LARS(1.0, weight_decay=1e-6)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    images = tf.TensorSpec([batch, size, size, 3], tf.uint8)
    text = tf.function(model.train_step, jit_compile=True).experimental_get_compiler_ir(images)(stage="stablehlo")
    # TensorFlow marks its outputs with an operation that the TPU compiler's front end does not accept.
    text = re.sub(r"mhlo\.copy (%\w+) :", r"stablehlo.optimization_barrier \1 :", text)
    return re.sub(r'dense<"0x(\w+)"> : tensor<([\dx]+)xi1>', _bytes_for_bits, text)


def _bytes_for_bits(constant: re.Match) -> str:
    """A Boolean constant as text of a newer MLIR, which spends a byte and not a bit on each value."""
    count = math.prod(int(side) for side in constant[2].split("x"))
    packed = bytes.fromhex(constant[1])
    values = bytes(packed[i // 8] >> i % 8 & 1 for i in range(count))
    return f'dense<"0x{values.hex().upper()}"> : tensor<{constant[2]}xi1>'


def compile_for(path: str, topology: str) -> harness.Result:
    """Memory, FLOPs and bytes of a lowered step on one chip. Runs in the environment that has JAX."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no cloud metadata server here
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jaxlib.mlir import ir

    device = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices[0]
    start = time.monotonic()
    with mlir.make_ir_context():
        module = ir.Module.parse(Path(path).read_text())
        compiled = device.client.compile(module, xla_client.DeviceList((device,)), xla_client.CompileOptions())
    memory, cost = compiled.get_compiled_memory_stats(), compiled.cost_analysis()
    cost = cost if isinstance(cost, dict) else cost[0]
    return {
        "seconds": time.monotonic() - start,
        "weights": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
    }


def row(topology: str, found: harness.Result) -> harness.Result:
    """What the table shows of one compilation."""
    _, teraflops, gigabytes, memory = CHIPS[topology]
    compute, traffic = found["flops"] / teraflops / 1e12, found["bytes"] / gigabytes / 1e9
    return {
        "GiB": (found["weights"] + found["temporary"]) / 2**30,
        "of": memory,
        "TFLOP": found["flops"] / 1e12,
        "GB": found["bytes"] / 1e9,
        "at least, ms": 1e3 * max(compute, traffic),
        "bound by": "compute" if compute > traffic else "memory",
        "compiled in s": found["seconds"],
    }


def main() -> None:
    """Lowers the step, compiles for one chip after the other (libtpu takes a lock), and prints a table."""
    args = harness.arguments(
        __doc__, jax_python="../xla/bin/python", encoder="resnet50", batch_size=128, image_size=224, chips=list(CHIPS)
    )
    if unknown := set(args.chips) - set(CHIPS):
        sys.exit(f"tpu_compile: error: expected --chips of {', '.join(CHIPS)}. Received: {', '.join(unknown)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder, f"{precision}.stablehlo")
            path.write_text(lower(precision, args.encoder, args.batch_size, args.image_size))
            for topology in args.chips:
                rows.append({"chip": CHIPS[topology][0], "precision": precision})
                try:
                    found = harness.own(compile_for, [args.jax_python], path=str(path), topology=topology)
                    rows[-1] |= row(topology, found)
                except RuntimeError as error:
                    rows[-1]["bound by"] = str(error).splitlines()[-1]
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)  # the next one takes minutes
    harness.show(f"{args.encoder}, {args.batch_size} images of {args.image_size} pixels", COLUMNS, rows, args.json)


if __name__ == "__main__":
    main()
