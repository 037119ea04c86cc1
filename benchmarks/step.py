"""Times the complete train step: views, networks, loss and LARS; beside lightly's, if its script is given.

    python -m benchmarks.step --encoder=resnet50 --batch_size=32
    python -m benchmarks.step --peer_python=.peer/bin/python --peer_script=lightly_bench.py

The peer's script is called as `script step --depth 50 --batch 32 --runs 5 [--channels_last]` and prints a line of JSON
with `seconds_per_step`. All are started in turns, `--turns` times; each takes the median of `--runs` steps.
"""

from functools import partial

from benchmarks import harness


def measure(encoder: str, batch_size: int, runs: int) -> harness.Result:
    """Median seconds of a step on random CIFAR-sized images."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    from simclr_tf.config import Config
    from simclr_tf.optimizers import make_optimizer
    from simclr_tf.tasks.pretrain import build_model

    config = Config.of(encoder=encoder, batch_size=batch_size)
    model = build_model(config, (32, 32, 3))
    model.compile(make_optimizer(config.optimization, 0.1, model.trainable_variables))
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8))
    step = tf.function(model.train_step)
    return {"seconds_per_step": harness.measure(lambda: float(step(images)["loss"]), runs)["median"]}


def main() -> None:
    """Prints a table with a row for each implementation."""
    args = harness.arguments(__doc__, encoder="resnet50", batch_size=32, runs=5, turns=2, **harness.PEER)
    settings = {"encoder": args.encoder, "batch_size": args.batch_size, "runs": args.runs}
    measurements = {"this project": partial(harness.own, measure, **settings)}
    if args.peer_script:
        words = ("--depth", args.encoder.removeprefix("resnet"), "--batch", args.batch_size, "--runs", args.runs)
        peer = partial(harness.peer, args, "step", *words)
        measurements |= {"lightly, NCHW": peer, "lightly, channels last": partial(peer, "--channels_last")}
    found = harness.in_turns(measurements, "seconds_per_step", args.turns)
    rows = [
        {
            "": name,
            "seconds a step": seconds,
            "images/s": args.batch_size / seconds,
            "times as fast as ours": found["this project"] / seconds,
        }
        for name, seconds in found.items()
    ]
    columns = {"": "", "seconds a step": ".2f", "images/s": ".1f", "times as fast as ours": ".2f"}
    title = f"train step, {args.encoder}, batch {args.batch_size}, 32 x 32, float32, CPU"
    harness.show(title, columns, rows, args.json)


if __name__ == "__main__":
    main()
