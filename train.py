"""Pretrains an encoder with SimCLR.

    python train.py --flagfile=flags/recipes/cifar10_cpu.cfg
    python train.py --strategy=tpu --batch_size=1024
    python train.py --dataset=folder --data_dir=photos --image_size=96
    python train.py --preview --augmentations=crop,flip,cutout

Short, because flags become a Config here and the story is in simclr_tf/pretraining.py.
"""

import flags


def main() -> None:
    """Flags to Config, and off."""
    config = flags.config_from_flags()
    # Imported after the flags were found to be right, because it takes seconds.
    import simclr_tf.quiet  # noqa: F401, I001

    if flags.FLAGS.preview:
        from simclr_tf.preview import preview

        print(*preview(config, config.output.run_dir or "preview"), sep="\n")
        return
    from simclr_tf.pretraining import pretrain

    pretrain(config, flags.as_flagfile(config))


if __name__ == "__main__":
    flags.define_pretraining()
    flags.run(main)
