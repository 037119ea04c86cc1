"""Times the whole train step: views, networks, loss and LARS; beside lightly's where it is installed.

    python benchmarks/step.py --encoder=resnet50 --batch_size=32
    python benchmarks/step.py --peer_python=.peer/bin/python --peer_script=lightly_bench.py

The peer's script times its own step and prints a JSON line with `seconds_per_step`. Both run in turns, each in a process
of its own, because absolute times drift on shared machines and only ratios within one run mean something.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def step_seconds(encoder: str, batch_size: int, runs: int) -> float:
    """Median seconds of a step on random CIFAR-sized images, after the first."""
    import simclr_tf.quiet  # noqa: F401, I001
    import numpy as np
    import tensorflow as tf

    from simclr_tf.config import Config, Network, Training
    from simclr_tf.optimizers import make_optimizer
    from simclr_tf.tasks.pretrain import build_model

    config = Config(network=Network(encoder=encoder), training=Training(batch_size=batch_size))
    model = build_model(config, (32, 32, 3))
    model.compile(make_optimizer(config.optimization, 0.1, model.trainable_variables))
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8))
    step = tf.function(model.train_step)
    step(images)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        float(step(images)["loss"])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measures in turns and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2, help="how often each is started")
    parser.add_argument("--peer_python", help="interpreter of an environment with lightly")
    parser.add_argument("--peer_script", help="script that times lightly's step")
    parser.add_argument("--one", action="store_true", help="time ours once and print the seconds")
    arguments = parser.parse_args()
    if arguments.one:
        print(step_seconds(arguments.encoder, arguments.batch_size, arguments.runs))
        return
    ours = [sys.executable, __file__, "--one", *_sizes(arguments, "--encoder", arguments.encoder, "--batch_size")]
    commands = {"this project": ours}
    if arguments.peer_python and arguments.peer_script:
        peer = [arguments.peer_python, arguments.peer_script, "step"]
        peer += _sizes(arguments, "--depth", arguments.encoder.removeprefix("resnet"), "--batch")
        commands |= {"lightly, NCHW": peer, "lightly, channels last": [*peer, "--channels_last"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.turns):
        for name, command in commands.items():
            times[name].append(_seconds(command))
    _show(arguments, {name: statistics.median(values) for name, values in times.items()})


def _sizes(arguments, encoder_flag: str, encoder: str, batch_flag: str) -> list[str]:
    return [encoder_flag, encoder, batch_flag, str(arguments.batch_size), "--runs", str(arguments.runs)]


def _seconds(command: list[str]) -> float:
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    value = json.loads(line)
    return value["seconds_per_step"] if isinstance(value, dict) else value


def _show(arguments, seconds: dict[str, float]) -> None:
    table = Table(title=f"train step, {arguments.encoder}, batch {arguments.batch_size}, 32 x 32, float32, CPU")
    for column in ("", "seconds a step", "images/s", "times as fast as ours"):
        table.add_column(column, justify="left" if not column else "right")
    ours = seconds["this project"]
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f}", f"{arguments.batch_size / value:.1f}", f"{ours / value:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
