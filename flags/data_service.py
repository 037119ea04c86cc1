"""Decodes images for trainings on other machines: the dispatcher of a tf.data service, or one of its workers.

    python -m flags.data_service --port=5050                                   # the dispatcher
    python -m flags.data_service --dispatcher=HOST:5050 --host=THIS_HOST       # a worker, on each machine that decodes
    python train.py --dataset=folder --data_dir=/shared/photos ... --data_service=HOST:5050

Workers read the same files as the training, under the same names. Once installed, the command is simclr-data-service.

    --port=N             port to listen on; a worker without it takes any that is free
    --dispatcher=ADDRESS host:port of the dispatcher to work for; without it, this is the dispatcher
    --host=localhost     name by which trainings reach this worker
"""

import time

from absl import flags as absl_flags

from simclr_tf import preflight

from . import FLAGS, run


def main() -> None:
    """The command."""
    absl_flags.DEFINE_integer("port", None, "Port to listen on.", lower_bound=1, upper_bound=65535)
    absl_flags.DEFINE_string("dispatcher", None, "The dispatcher to work for.")
    absl_flags.DEFINE_string("host", "localhost", "Name by which trainings reach this worker.")
    run(_serve, __doc__, {})


def _serve() -> None:
    if not FLAGS.port and not FLAGS.dispatcher:
        raise ValueError("Expected `port`, to be the dispatcher, or `dispatcher`, to work for one. Received: neither")
    if FLAGS.dispatcher:
        preflight.check_dispatcher("dispatcher", FLAGS.dispatcher)
    import simclr_tf.quiet  # noqa: F401, I001
    from simclr_tf.data import service

    server = service.start(FLAGS.port or 0, FLAGS.dispatcher, FLAGS.host)  # noqa: F841  # ends with its last reference
    role = f"worker of {FLAGS.dispatcher}" if FLAGS.dispatcher else f"dispatcher: --data_service=THIS_HOST:{FLAGS.port}"
    print(f"service  {role}", flush=True)
    while True:  # not the server's `join`, during which Python takes no signal
        time.sleep(3600)


if __name__ == "__main__":
    main()
