"""What it costs to share a step among devices: replicas, processes, their collectives, and batch norm.

    python -m benchmarks.distribution
    python -m benchmarks.distribution --peer_python .peer/bin/python --peer_script YOUR_SCRIPT.py

One global batch on one device, on two logical CPUs and on two processes. On a CPU they all share the same cores, so two
replicas are no faster; the extra time is the cost of splitting. The last table is that of `benchmarks.objectives`, which
also describes the peer's script.
"""

import os
import sys

from benchmarks import harness, objectives

BN_SHAPE = (64, 16, 16, 64)
LAUNCHER = (sys.executable, "-m", "flags.launch", "--workers=2", "--")
# title: command that acts as Python, replicas
CASES = {
    "1 replica": ((sys.executable,), 1),
    "2 logical CPUs": ((sys.executable,), 2),
    "2 processes": (LAUNCHER, 2),
}


def measure(replicas: int, batch_size: int, width: float, runs: int) -> harness.Result:
    """Milliseconds of the step and its parts, in one process; as one of several workers under the launcher."""
    import simclr_tf.quiet  # noqa: F401, I001
    import keras
    import numpy as np
    import tensorflow as tf

    from simclr_tf import distribution
    from simclr_tf.config import Config, Hardware
    from simclr_tf.networks.normalization import SyncBatchNormalization
    from simclr_tf.optimizers import LARS
    from simclr_tf.tasks.pretrain import build_model

    alone = "TF_CONFIG" not in os.environ
    name = "multiworker" if not alone else "mirrored" if replicas > 1 else "single"
    strategy = distribution.make_strategy(Hardware(strategy=name, logical_cpus=replicas if alone else 1))
    count = strategy.num_replicas_in_sync
    with strategy.scope():
        model = build_model(Config.of(encoder="resnet18", width=width), (32, 32, 3))
        optimizer = LARS(0.1, weight_decay=1e-6)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, jit_compile=False)
        norms = SyncBatchNormalization(), keras.layers.BatchNormalization(synchronized=count > 1)
        for layer in norms:
            layer.build(BN_SHAPE)

    def per_replica(shape, dtype="float32"):
        array = np.random.default_rng(0).uniform(0, 255, (shape[0] // count, *shape[1:])).astype(dtype)
        return strategy.experimental_distribute_values_from_function(lambda context: tf.constant(array))

    def timed(function, *inputs):
        compiled = tf.function(lambda *values: strategy.run(function, values))
        results = strategy.experimental_local_results
        return 1e3 * harness.measure(lambda: [np.asarray(x) for x in results(compiled(*inputs))], runs)["median"]

    def summed(*shape):
        return tf.reduce_sum(distribution.all_sum(tf.ones(shape)))

    def collectives():
        """Those of a step: two for each batch norm, two for the projections, one for each gradient."""
        total = 0.0
        for layer in (*model.encoder.layers, *model.head.layers):
            if isinstance(layer, SyncBatchNormalization):
                total += sum(summed(n, 2, layer.gamma.shape[0]) for n in (count, 1))
        for _ in range(2):
            total += summed(2 * batch_size, model.head.output_shape[-1])
        for variable in model.trainable_variables:
            total += summed(*variable.shape)
        return total

    def both_ways(layer):
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return tf.reduce_sum(tape.gradient(y, x, x))

        return run

    images, features = per_replica((batch_size, 32, 32, 3), "uint8"), per_replica(BN_SHAPE)
    found = {
        "step, ms": timed(lambda batch: model.train_step(batch)["loss"], images),
        "collectives, ms": timed(collectives) if count > 1 else 0.0,
        "batch norm, ms": timed(both_ways(norms[0]), features),
    }
    if alone:  # Keras' layer does not run on several workers
        found["Keras' batch norm, ms"] = timed(both_ways(norms[1]), features)
    return found


def main() -> None:
    """Prints a table with a row for each case, then that of the loss."""
    args = harness.arguments(__doc__, batch_size=128, width=0.25, runs=10, **harness.PEER)
    rows = []
    for title, (python, replicas) in CASES.items():
        shared = {"batch_size": args.batch_size, "width": args.width, "runs": args.runs}
        found = harness.own(measure, python, replicas=replicas, **shared)
        rows.append({"devices": title, **found})
        rows[-1]["of 1 replica"] = found["step, ms"] / rows[0]["step, ms"]
    columns = {"devices": "", "step, ms": ".0f", "of 1 replica": ".2f", "collectives, ms": ".1f"}
    columns |= {"batch norm, ms": ".1f", "Keras' batch norm, ms": ".1f"}
    title = f"train step, resnet18, width {args.width:g}, global batch {args.batch_size}"
    harness.show(title, columns, rows, args.json)
    objectives.main([f"--{name}={getattr(args, name)}" for name in harness.PEER] + ["--json"] * args.json)


if __name__ == "__main__":
    main()
