"""Time and memory of the two views on the CPU, beside stock Keras-CV layers and a peer.

    python -m benchmarks.augmentation
    python -m benchmarks.augmentation --sizes 32 --augmentations simclr_blur --step
    python -m benchmarks.augmentation --peer_python .peer/bin/python --peer_script YOUR_SCRIPT.py

Times are the best of `--runs` calls, of three for images above 64 pixels; memory is the growth of the process's peak,
compilation included. `--step` adds a ResNet-50 training step. The peer's script is called as `script views` and prints a
line of JSON with `microseconds_per_view` of 32-pixel images.
"""

from collections.abc import Callable
from functools import partial
from itertools import count

from benchmarks import harness, step


def measure(how: str, size: int, batch_size: int, augmentations: str, runs: int) -> harness.Result:
    """Microseconds a view, seconds of the first call, and MiB of extra peak memory."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8))
    views, steps = tf.function(WAYS[how](augmentations, size)), count()
    found = harness.measure(lambda: views(images, tf.constant(next(steps)))[0, 0, 0].numpy(), runs)
    return {**found, "microseconds_per_view": 1e6 * found["best"] / (2 * batch_size)}


def _ours(augmentations: str, size: int, compiled: bool) -> Callable:
    from simclr_tf.augment import make_views

    return make_views(augmentations, compiled=compiled)


def _keras_cv(size: int) -> Callable:
    import keras_cv
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # its layers loop over the images, and TensorFlow says so for each operation
    layers = [
        keras_cv.layers.RandomCropAndResize((size, size), (0.08, 1.0), (3 / 4, 4 / 3)),
        keras_cv.layers.RandomFlip("horizontal"),
        keras_cv.layers.RandomApply(keras_cv.layers.RandomColorJitter((0, 255), 0.4, 0.4, 0.4, 0.1), rate=0.8),
        keras_cv.layers.RandomApply(keras_cv.layers.Grayscale(output_channels=3), rate=0.2),
    ]

    def view(images):
        for layer in layers:
            images = layer(images, training=True)
        return images / 255.0

    return lambda images, step: tf.concat([view(tf.cast(images, tf.float32)) for _ in range(2)], axis=0)


WAYS = {
    "here, XLA": partial(_ours, compiled=True),
    "here, plain graph": partial(_ours, compiled=False),
    "stock Keras-CV layers, simclr": lambda augmentations, size: _keras_cv(size),
}


def main() -> None:
    """Prints a table with a row for each size and way of making views."""
    args = harness.arguments(
        __doc__, sizes=[32, 224], batch_size=256, augmentations="simclr", runs=15, step=False, **harness.PEER
    )
    rows = []
    for size in args.sizes:
        runs = args.runs if size <= 64 else min(args.runs, 3)
        shared = {"size": size, "batch_size": args.batch_size, "augmentations": args.augmentations, "runs": runs}
        measurements = {how: partial(harness.own, measure, how=how, **shared) for how in WAYS}
        if size == 32 and args.peer_script:
            measurements["peer, its own views"] = partial(harness.peer, args, "views")
        if size == 32 and args.step:
            measurements["a ResNet-50 training step"] = _step
        found = {how: measurement() for how, measurement in measurements.items()}
        ours = found["here, XLA"]["microseconds_per_view"]
        for how, row in found.items():
            micro = row["microseconds_per_view"]
            rows.append({"pixels": size, "how": how, "µs a view": micro, "x the time of XLA": micro / ours})
            if "first" in row:
                rows[-1] |= {"s, first call": row["first"], "extra peak MiB": row["extra_peak_mib"]}
    columns = {"pixels": "d", "how": "", "µs a view": ".1f", "x the time of XLA": ".1f"}
    columns |= {"s, first call": ".1f", "extra peak MiB": ".0f"}
    title = f"{args.augmentations}, batch {args.batch_size}, two views of each image"
    harness.show(title, columns, rows, args.json)


def _step() -> harness.Result:
    seconds = harness.own(step.measure, encoder="resnet50", batch_size=32, runs=5)["seconds_per_step"]
    return {"microseconds_per_view": 1e6 * seconds / 64}  # two views of 32 images


if __name__ == "__main__":
    main()
