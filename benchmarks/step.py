"""Times the complete train step: views, networks, loss and LARS; beside lightly's, if its environment is given.

    python -m benchmarks.step --encoder=resnet50 --batch_size=32
    python -m benchmarks.step --width=0.25 --batch_size=256 --precision=bfloat16 --peer_python=.peer/bin/python

All are started in turns, `--turns` times; each takes the median of `--runs` steps, of a convolution the best. The peer is
`benchmarks/lightly_step.py`. Beside the step stand its parts, each timed alone: the views, the forward pass, the
optimizer's update, and the convolutions as TensorFlow computes them (`benchmarks/kernels.py`).
"""

import statistics
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks import harness, kernels

PEER_LAYOUTS = {"lightly, NCHW": (), "lightly, channels last": ("--channels_last",)}


def build(encoder: str, width: float, batch_size: int, precision: str) -> tuple[Any, Any]:
    """A compiled model, and random CIFAR-sized images to learn from."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    from simclr_tf.config import Config
    from simclr_tf.tasks.pretrain import compiled_model

    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    config = Config.of(encoder=encoder, width=width, batch_size=batch_size, precision=policy)
    model = compiled_model(config, (32, 32, 3), 0.1)
    return model, tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8))


def measure(encoder: str, batch_size: int, runs: int) -> harness.Result:
    """Median seconds of a step in float32."""
    return _timed(*build(encoder, 1.0, batch_size, "float32"), runs)


def _timed(model: Any, images: Any, runs: int) -> harness.Result:
    import tensorflow as tf

    step = tf.function(model.train_step)
    seconds = harness.measure(lambda: float(step(images)["loss"]), runs)["median"]
    return {"seconds_per_step": seconds, "peak_mib": harness.peak_mib()}


def measure_parts(encoder: str, width: float, batch_size: int, precision: str, runs: int) -> harness.Result:
    """Median seconds of a step and of its parts, peak memory, and operations of the convolutions."""
    model, images = build(encoder, width, batch_size, precision)
    import tensorflow as tf

    found = _timed(model, images, runs)
    views = tf.function(lambda images: model.views(images, 0))
    forward = tf.function(lambda views: model.objective(model(views, training=True)).loss)
    given, weights = views(images), model.trainable_variables
    gradients = [tf.random.normal(weight.shape) for weight in weights]

    @tf.function
    def update() -> Any:
        model.optimizer.apply(gradients, weights)
        return model.optimizer.iterations.value + 0

    return {
        **found,
        "views": harness.measure(lambda: float(views(images)[0, 0, 0, 0]), runs)["median"],
        "forward": harness.measure(lambda: float(forward(given)), runs)["median"],
        "optimizer": harness.measure(lambda: int(update()), runs)["median"],
        "convolutions": kernels.seconds(model.encoder, 2 * batch_size, precision, runs),
        "flops": kernels.flops(model.encoder, 2 * batch_size),
    }


def in_turns(peer_python: str, turns: int, **settings) -> dict[str, harness.Result]:
    """Medians of all measurements of ours and, in an environment with lightly, of the peer in both layouts."""
    measurements = {"this project": partial(harness.own, measure_parts, **settings)}
    if peer_python:
        words = [f"--{name}={value}" for name, value in settings.items()]
        peer = partial(harness.run, peer_python, "-m", "benchmarks.lightly_step", *words)
        measurements |= {name: partial(peer, *layout) for name, layout in PEER_LAYOUTS.items()}
    results = harness.taken(measurements, turns)
    return {
        name: {key: statistics.median(result[key] for result in found) for key in found[0]}
        for name, found in results.items()
    }


def row(name: str, found: Mapping[str, harness.Result], batch_size: int, peak: float) -> harness.Result:
    """What a table says of one implementation; `peak` is in operations a second."""
    mine, ours = found[name], found["this project"]
    seconds = mine["seconds_per_step"]
    return {
        "": name, "seconds a step": seconds, "images/s": batch_size / seconds, "MiB": mine["peak_mib"],
        "times ours": seconds / ours["seconds_per_step"], "share of the peak": ours["flops"] / seconds / peak,
        "share of convolutions": ours["convolutions"] / seconds,
    } | ({"of three forward passes": seconds / (3 * ours["forward"]), "views": ours["views"] / seconds,
          "optimizer": ours["optimizer"] / seconds} if mine is ours else {})  # fmt: skip


COLUMNS = {
    "": "", "seconds a step": ".3f", "images/s": ".0f", "MiB": ".0f", "times ours": ".2f",
    "share of the peak": ".0%", "share of convolutions": ".0%", "of three forward passes": ".2f", "views": ".1%",
    "optimizer": ".1%",
}  # fmt: skip


def main() -> None:
    """Prints a table with a row for each implementation."""
    args = harness.arguments(
        __doc__, encoder="resnet50", width=1.0, batch_size=32, precision="float32", runs=5, turns=2, peer_python=""
    )
    settings = {name: getattr(args, name) for name in ("encoder", "width", "batch_size", "precision", "runs")}
    found = in_turns(args.peer_python, args.turns, **settings)
    peak = harness.own(kernels.peak, precision=args.precision)["flops"]
    rows = [row(name, found, args.batch_size, peak) for name in found]
    title = f"train step, {args.encoder} x {args.width:g}, batch {args.batch_size}, 32 x 32, {args.precision}, CPU"
    harness.show(title, COLUMNS, rows, args.json)


if __name__ == "__main__":
    main()
