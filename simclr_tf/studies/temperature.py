"""Temperature and the l2 norm: the paper's table 5."""

from simclr_tf.studies.study import Study, grid, values

STUDY = Study(
    title="Temperature and normalisation",
    question="NT-Xent with and without normalised projections. Entropy and contrastive accuracy are those of the last "
    "epoch, over batches of `--batch_size`, and so not to be compared with the paper's; only their order is.",
    axes=("l2 norm", "temperature"),
    cells=(
        *grid({"yes": {"normalize": True}}, values("temperature", 0.05, 0.1, 0.5, 1)),
        *grid({"no": {"normalize": False}}, values("temperature", 10, 100)),
    ),
    measures=("contrastive_entropy", "contrastive_accuracy", "top1"),
    paper={
        ("yes", "0.05"): (1.0, 90.5, 59.7),
        ("yes", "0.1"): (4.5, 87.8, 64.4),
        ("yes", "0.5"): (8.2, 68.2, 60.7),
        ("yes", "1"): (8.3, 59.1, 58.0),
        ("no", "10"): (0.5, 91.7, 57.2),
        ("no", "100"): (0.5, 92.1, 57.0),
    },
    source="Table 5: ImageNet, ResNet-50, linear evaluation",
)
