"""Times the step with and without the check that loss and gradients are finite before the update.

    python -m benchmarks.finite --encoder=resnet18 --width=1 --batch_size=64

Both models are in one process and take turns, step by step; the ratio is that of the median times.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness


def measure(encoder: str, width: float, batch_size: int, image_size: int, precision: str, runs: int) -> harness.Result:
    """Median seconds of a step with and without the check."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    from simclr_tf.config import Config
    from simclr_tf.optimizers import apply_if_finite
    from simclr_tf.tasks import simclr
    from simclr_tf.tasks.pretrain import compiled_model

    shape = (image_size, image_size, 3)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    settings: dict[str, Any] = {"encoder": encoder, "width": width, "batch_size": batch_size, "precision": precision}
    config = Config.of(**settings)

    def unchecked(optimizer, loss, gradients, variables):
        optimizer.apply(gradients, variables)
        return tf.constant(True)

    def stepper(update: Callable) -> Callable[[], float]:
        model = compiled_model(config, shape, 0.1)
        simclr.apply_if_finite = update
        step = tf.function(model.train_step)
        for _ in range(2):  # trace it while `update` is in place, and warm up
            step(images)

        def timed() -> float:
            start = time.perf_counter()
            float(step(images)["skipped"])
            return time.perf_counter() - start

        return timed

    steppers = {"with": stepper(apply_if_finite), "without": stepper(unchecked)}
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(runs):
        for name, step in steppers.items():
            times[name].append(step())
    found = {name: statistics.median(values) for name, values in times.items()}
    return {**found, "ratio": found["with"] / found["without"]}


def main() -> None:
    """Prints a table of one row."""
    defaults = {"encoder": "resnet18", "width": 0.25, "batch_size": 256, "image_size": 32, "precision": "float32"}
    args = harness.arguments(__doc__, **defaults, runs=30)
    settings = {name: getattr(args, name) for name in (*defaults, "runs")}
    row = {"": f"{args.encoder} x {args.width:g}, {args.precision}", **harness.own(measure, **settings)}
    harness.show("seconds a step", {"": "", "with": ".4f", "without": ".4f", "ratio": ".4f"}, [row], args.json)


if __name__ == "__main__":
    main()
