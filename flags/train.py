"""Pretrains an encoder with SimCLR.

    python train.py --flagfile=recipe:cifar10_cpu
    python train.py --strategy=tpu --batch_size=1024
    python train.py --dataset=folder --data_dir=photos --image_size=96
    python train.py --preview --augmentations=crop,flip,cutout

An installed copy has the same command as `simclr-train`.
"""

from absl import flags as absl_flags

from simclr_tf import preflight
from simclr_tf.training.signals import interruptible

from . import FLAGS, config_from_flags, define, import_tensorflow, pretraining_groups, run


def main() -> None:
    """The command."""
    groups = pretraining_groups()
    for group in groups.values():
        define(group)
    absl_flags.DEFINE_bool("preview", False, "Draw the augmentations into --run_dir or preview/ and train nothing.")
    absl_flags.DEFINE_bool("input_report", False, "Measure the input and the step alone, and train nothing.")
    more = (
        "--preview draws the augmentations into --run_dir or preview/ and trains nothing.\n"
        "--input_report measures the input and the step, each alone, says which is the bottleneck, and trains nothing."
    )
    run(_train, f"{__doc__}\n{more}", groups)


def _train() -> None:
    config = config_from_flags()
    if FLAGS.preview and FLAGS.input_report:
        raise ValueError("Only one of `preview` and `input_report` can be done at a time. Received: both")
    if FLAGS.preview:
        import_tensorflow()
        from simclr_tf.inspect.preview import preview

        print(*preview(config, config.output.run_dir or "preview"), sep="\n")
        return
    preflight.check(config)
    # While it trains, it says more.
    with interruptible("continue the folder that it printed, if any, with `run_dir` and `resume`, or start again"):
        # Imported after everything else was found to be right, because it takes seconds.
        import_tensorflow()
        if FLAGS.input_report:
            from simclr_tf.tasks.input_report import input_report

            print(input_report(config))
            return
        from simclr_tf.tasks.pretrain import pretrain

        pretrain(config)


if __name__ == "__main__":
    main()
