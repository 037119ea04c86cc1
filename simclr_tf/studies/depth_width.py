"""Depth and width of the encoder: the paper's figure 7."""

from simclr_tf.studies.study import Study, grid, multiples, values

STUDY = Study(
    title="Depth and width of the ResNet",
    question="ResNets of multiples of `--width`. The paper's figure 7 prints no numbers; there, deeper and wider is "
    "better throughout.",
    axes=("encoder", "width"),
    cells=grid(
        values("encoder", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), multiples("width", 1, 2, 4)
    ),
    figure="parameters",
)
