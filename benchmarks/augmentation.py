"""Time and memory of the `simclr` policy on the CPU, beside the same of stock Keras-CV layers and of a peer.

    python -m benchmarks.augmentation
    python -m benchmarks.augmentation --sizes 32 --augmentations simclr_blur --step
    python -m benchmarks.augmentation --peer_python .peer/bin/python --peer_script lightly_bench.py

Each line runs in a process of its own, for the peak of a process's memory never falls; memory is what that peak grows
by from just before the first call, compilation included. Times are the best of several calls. A peer's script is called
as `script views` and prints a line of JSON with `microseconds_per_view` of 32-pixel images. Quote the ratios: the times
depend on what else the machine does.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def main() -> None:
    """Prints a table, a row a size and way of making views."""
    args = _arguments()
    if args.one:
        print(json.dumps(measure(args.one, args.sizes[0], args.batch_size, args.augmentations, args.runs)))
        return
    table = Table(title=f"{args.augmentations}, batch {args.batch_size}, two views an image")
    for column in ("pixels", "how", "us a view", "x the time of XLA", "s, first call", "extra peak MiB"):
        table.add_column(column, justify="left" if column == "how" else "right")
    for size in args.sizes:
        found = {how: _run(args, how, size) for how in WAYS}
        if size == 32 and args.peer_script:
            found["peer"] = _json([args.peer_python or sys.executable, args.peer_script, "views"])
        if size == 32 and args.step:
            found["a ResNet-50 training step"] = {"microseconds_per_view": _step_microseconds()}
        ours = found["compiled"]["microseconds_per_view"]
        for how, row in found.items():
            micro = row["microseconds_per_view"]
            rest = [f"{row[key]:.{digits}f}" if key in row else "" for key, digits in (("first", 1), ("mib", 0))]
            table.add_row(str(size), DESCRIPTIONS.get(how, how), f"{micro:.1f}", f"{micro / ours:.1f}", *rest)
    Console(width=100).print(table)


def measure(how: str, size: int, batch_size: int, augmentations: str, runs: int) -> dict[str, float]:
    """Microseconds a view, seconds of the first call, which compiles, and MiB that the peak of memory grew by."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8))
    views = WAYS[how](augmentations, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    _ = views(images, tf.constant(0))[0, 0, 0].numpy()
    first = time.perf_counter() - start
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = []
    for step in range(1, runs + 1):
        start = time.perf_counter()
        _ = views(images, tf.constant(step))[0, 0, 0].numpy()
        times.append(time.perf_counter() - start)
    micro = 1e6 * min(times) / (2 * batch_size)
    return {"microseconds_per_view": micro, "first": first, "mib": extra}


def _compiled(augmentations: str, size: int) -> Callable:
    import tensorflow as tf

    from simclr_tf.augment import make_views

    views = make_views(augmentations)
    return tf.function(lambda images, step: views(images, step))


def _plain(augmentations: str, size: int) -> Callable:
    import tensorflow as tf

    from simclr_tf.augment import make_views

    views = make_views(augmentations, compiled=False)
    return tf.function(lambda images, step: views(images, step))


def _keras_cv(augmentations: str, size: int) -> Callable:
    """`simclr` in stock layers; whatever the augmentations asked for."""
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

    return tf.function(lambda images, step: tf.concat([view(tf.cast(images, tf.float32)) for _ in range(2)], axis=0))


WAYS = {"compiled": _compiled, "plain": _plain, "keras_cv": _keras_cv}
DESCRIPTIONS = {"compiled": "here, XLA", "plain": "here, plain graph", "keras_cv": "stock Keras-CV layers"}


def _step_microseconds() -> float:
    seconds = float(subprocess.check_output([sys.executable, "benchmarks/step.py", "--one"], text=True).split()[-1])
    return 1e6 * seconds / 64  # two views of 32 images


def _run(args: argparse.Namespace, how: str, size: int) -> dict[str, float]:
    settings = {
        "--one": how,
        "--sizes": size,
        "--batch_size": args.batch_size,
        "--augmentations": args.augmentations,
        "--runs": args.runs if size <= 64 else min(args.runs, 3),
    }
    return _json(
        [sys.executable, "-m", "benchmarks.augmentation", *(str(x) for pair in settings.items() for x in pair)]
    )


def _json(command: list[str]) -> dict[str, float]:
    """The last line that a process prints, as JSON; its standard error is the user's to read."""
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224], help="sides of the images, in pixels")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--augmentations", default="simclr", help="preset or list of operators")
    parser.add_argument("--runs", type=int, default=15, help="timed calls; three for large images")
    parser.add_argument("--step", action="store_true", help="time a ResNet-50 training step for comparison")
    parser.add_argument("--peer_python", help="interpreter of an environment with lightly")
    parser.add_argument("--peer_script", help="script that times lightly's views")
    parser.add_argument("--one", choices=sorted(WAYS), help="measure one way, print a line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
