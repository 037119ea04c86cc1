"""What it costs to share a step among devices: replicas in one process, processes, their collectives, batch norm, the loss.

    python benchmarks/distribution.py
    python benchmarks/distribution.py --peer_python .peer/bin/python --peer_script lightly_bench.py

One global batch, split 1, 2 logical CPUs and 2 processes ways. On a CPU all of them share the same cores, so two replicas
are no faster here; what they take longer is what splitting costs. Only ratios within one run mean something. The
last table is that of `benchmarks/objectives.py`, which see for the peer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BN_SHAPE = (64, 16, 16, 64)


def median_ms(step, repeats: int) -> float:
    """Median time of `step()`, which must end with a value on the host, in ms."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(args) -> dict[str, float]:
    """The times of one process; runs under the launcher or by itself."""
    import simclr_tf.quiet  # noqa: F401, I001
    import keras
    import numpy as np
    import tensorflow as tf

    from simclr_tf import distribution
    from simclr_tf.config import Config, Hardware, Network
    from simclr_tf.networks.normalization import SyncBatchNormalization
    from simclr_tf.optimizers import LARS
    from simclr_tf.tasks.pretrain import build_model

    if "TF_CONFIG" in os.environ:
        strategy = distribution.make_strategy(Hardware(strategy="multiworker"))
    else:
        name = "mirrored" if args.replicas > 1 else "single"
        strategy = distribution.make_strategy(Hardware(strategy=name, logical_cpus=args.replicas))
    count = strategy.num_replicas_in_sync
    with strategy.scope():
        model = build_model(Config(network=Network(encoder="resnet18", width=args.width)), (32, 32, 3))
        optimizer = LARS(0.1, weight_decay=1e-6)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, jit_compile=False)

    def per_replica(shape, dtype="float32"):
        array = np.random.default_rng(0).uniform(0, 255, (shape[0] // count, *shape[1:])).astype(dtype)
        return strategy.experimental_distribute_values_from_function(lambda context: tf.constant(array))

    def timed(function, *inputs):
        compiled = tf.function(lambda *values: strategy.run(function, values))
        return median_ms(
            lambda: [np.asarray(x) for x in strategy.experimental_local_results(compiled(*inputs))], args.repeats
        )

    def train_step(images):
        return model.train_step(images)["loss"]

    def collectives():
        """Those of a step: two for each batch norm, two for the projections, one for each gradient."""
        total = 0.0
        for layer in (*model.encoder.layers, *model.head.layers):
            if isinstance(layer, SyncBatchNormalization):
                channels = layer.gamma.shape[0]
                total += sum(tf.reduce_sum(distribution.all_sum(tf.ones([n, 2, channels]))) for n in (count, 1))
        for _ in range(2):
            total += tf.reduce_sum(distribution.all_sum(tf.ones([2 * args.batch_size, model.head.output_shape[-1]])))
        for variable in model.trainable_variables:
            total += tf.reduce_sum(distribution.all_sum(tf.ones(variable.shape)))
        return total

    def norm(layer):
        def both_ways(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return tf.reduce_sum(tape.gradient(y, x, x))

        return both_ways

    with strategy.scope():
        ours, theirs = SyncBatchNormalization(), keras.layers.BatchNormalization(synchronized=count > 1)
        for layer in (ours, theirs):
            layer.build(BN_SHAPE)
    found = {
        "step": timed(train_step, per_replica((args.batch_size, 32, 32, 3), "uint8")),
        "collectives": timed(collectives) if count > 1 else 0.0,
        "norm": timed(norm(ours), per_replica(BN_SHAPE)),
    }
    if "TF_CONFIG" not in os.environ:
        found["keras norm"] = timed(norm(theirs), per_replica(BN_SHAPE))
    return found


def main() -> None:
    """Runs each case in processes of its own, one case at a time, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--replicas", type=int, help="measure this many in this process, and print JSON")
    parser.add_argument("--peer_python", help="interpreter of the peer's environment")
    parser.add_argument("--peer_script", help="the peer's benchmark, to time its loss")
    args = parser.parse_args()
    if args.replicas:
        print(json.dumps(measure(args)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("devices", "step, ms", "of 1 replica", "collectives, ms", "batch norm, ms", "Keras' batch norm, ms")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    launcher = ["-m", "simclr_tf.launch", "--workers=2", "--"]
    alone = None
    for title, prefix, replicas in (("1 replica", [], 1), ("2 logical CPUs", [], 2), ("2 processes", launcher, 2)):
        own = [f"--{name}={getattr(args, name)}" for name in ("batch_size", "width", "repeats")]
        command = [sys.executable, *prefix, __file__, *own, f"--replicas={replicas}"]
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        alone = alone or found["step"]
        keras_norm = f"{found['keras norm']:.1f}" if "keras norm" in found else "-"
        cells = (found["step"], found["step"] / alone, found["collectives"], found["norm"])
        table.add_row(title, f"{cells[0]:.0f}", f"{cells[1]:.2f}", f"{cells[2]:.1f}", f"{cells[3]:.1f}", keras_norm)
    Console(width=120).print(table)
    peer = [f"--{name}={value}" for name in ("peer_python", "peer_script") if (value := getattr(args, name))]
    subprocess.run([sys.executable, "-m", "benchmarks.objectives", *peer], env=environ, check=True)


if __name__ == "__main__":
    main()
