"""Starts several workers on this machine, for `--strategy=multiworker`.

    python -m flags.launch --workers=2 -- train.py --flagfile=recipe:demo --strategy=multiworker
    simclr-launch --workers=2 -- simclr-train --flagfile=recipe:demo --strategy=multiworker

Each worker is a process with a TF_CONFIG of its own, reached by the loopback device on a free port (on which TensorFlow
listens to all others, too: docs/security.md). The chief's output is shown as it is, that of the others behind
`[worker 1]`. Signals are passed on. The exit code is the worst of those that ended by themselves.

    --workers=N    how many processes
    --grace=30     seconds that the others have when a worker has failed
"""

import sys

from absl import flags as absl_flags

from simclr_tf import launch

from . import FLAGS, run, words


def main() -> None:
    """The command."""
    absl_flags.DEFINE_integer("workers", None, "How many processes.")
    absl_flags.DEFINE_float("grace", launch.GRACE, "Seconds that the others have to end after a worker has failed.")
    run(_launch, __doc__, {}, positional=-1)


def _launch() -> None:
    if not FLAGS.workers or FLAGS.workers < 1 or not words:
        raise ValueError(
            "Expected `workers`, at least 1, and a command: --workers=2 -- train.py --strategy=multiworker. "
            f"Received: `workers={FLAGS.workers}` {' '.join(words)}"
        )
    sys.exit(launch.launch(words, FLAGS.workers, FLAGS.grace))


if __name__ == "__main__":
    main()
