"""Compiles the paper's train step for TPUs with the real TPU compiler, on a machine without a TPU.

    python3 -m venv ../xla && ../xla/bin/pip install "jax[tpu]"
    python benchmarks/tpu_compile.py --jax_python=../xla/bin/python

The complete step (two views, ResNet, head, NT-Xent, LARS) of one replica is lowered by TensorFlow to StableHLO, and JAX's
compile-only client hands that to libtpu. Nothing is run. JAX has an environment of its own, because its libtpu is newer
than the one that TensorFlow works with. Compiling takes minutes of a CPU core for each chip and precision.

The lower bound in time is what the chip cannot beat: the compiler's count of FLOPs over the chip's peak, or its count of
bytes over the memory's bandwidth, whichever is longer. It is no estimate.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# topology: (chip, bfloat16 TFLOP/s, GB/s and GiB of memory a chip), from https://cloud.google.com/tpu/docs/v5e, /v4, /v6e
CHIPS = {
    "v5e:2x2": ("v5e", 197, 819, 16),
    "v4:2x2x1": ("v4", 275, 1200, 32),
    "v6e:2x2": ("v6e", 918, 1638, 32),
}
PRECISIONS = ("float32", "mixed_bfloat16")


def lower(precision: str, encoder: str, batch: int, size: int) -> str:
    """The train step of one replica as StableHLO."""
    import simclr_tf.quiet  # noqa: F401, I001
    import tensorflow as tf

    from simclr_tf.config import Augmentation, Config, Network, Training
    from simclr_tf.optimizers import LARS
    from simclr_tf.tasks.pretrain import build_model

    config = Config(
        augmentation=Augmentation(blur=True), network=Network(encoder=encoder), training=Training(precision=precision)
    )
    model = build_model(config, (size, size, 3))
    optimizer = LARS(1.0, weight_decay=1e-6)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)
    images = tf.TensorSpec([batch, size, size, 3], tf.uint8)
    text = tf.function(model.train_step, jit_compile=True).experimental_get_compiler_ir(images)(stage="stablehlo")
    # TensorFlow marks its outputs with an operation that the TPU compiler's front end does not take.
    text = re.sub(r"mhlo\.copy (%\w+) :", r"stablehlo.optimization_barrier \1 :", text)
    return re.sub(r'dense<"0x(\w+)"> : tensor<([\dx]+)xi1>', _bytes_for_bits, text)


def _bytes_for_bits(constant: re.Match) -> str:
    """A Boolean constant in the textual form of a newer MLIR, which spends a byte on each value and not a bit."""
    count = math.prod(int(side) for side in constant[2].split("x"))
    packed = bytes.fromhex(constant[1])
    values = bytes(packed[i // 8] >> i % 8 & 1 for i in range(count))
    return f'dense<"0x{values.hex().upper()}"> : tensor<{constant[2]}xi1>'


def compile_for(path: str, topology: str) -> dict:
    """Memory, FLOPs and bytes of a lowered step on one chip. Runs in the environment that has JAX."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no metadata server of a cloud here
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


def row(topology: str, precision: str, found: dict) -> list[str]:
    """A line of the table."""
    chip, teraflops, gigabytes, memory = CHIPS[topology]
    compute, traffic = found["flops"] / teraflops / 1e12, found["bytes"] / gigabytes / 1e9
    return [
        chip,
        precision,
        f"{(found['weights'] + found['temporary']) / 2**30:.1f} of {memory}",
        f"{found['flops'] / 1e12:.2f}",
        f"{found['bytes'] / 1e9:.1f}",
        f"{1e3 * max(compute, traffic):.0f} ({'compute' if compute > traffic else 'memory'})",
        f"{found['seconds']:.0f}",
    ]


def main() -> None:
    """Lowers, compiles one after the other (libtpu takes a lock) and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jax_python", required=True, help="Python of an environment with jax[tpu]")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--batch_size", type=int, default=128, help="images a core")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--chips", nargs="+", default=list(CHIPS), choices=list(CHIPS))
    args = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    table = Table("chip", "precision", "GiB", "TFLOP", "GB", "at least, ms", "compiled in s")
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder, f"{precision}.stablehlo")
            path.write_text(lower(precision, args.encoder, args.batch_size, args.image_size))
            for topology in args.chips:
                command = [args.jax_python, __file__, "--worker", str(path), topology]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    table.add_row(CHIPS[topology][0], precision, (done.stderr.strip().splitlines() or ["failed"])[-1])
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                print(topology, precision, json.dumps(found), file=sys.stderr, flush=True)
                table.add_row(*row(topology, precision, found))
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(compile_for(sys.argv[2], sys.argv[3])))
    else:
        main()
