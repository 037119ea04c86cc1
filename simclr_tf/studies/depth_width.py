"""Depth and width of the encoder: the paper's figure 7."""

from simclr_tf.studies.study import Study, grid, multiples, values

STUDY = Study(
    title="Depth and width of the ResNet",
    question="ResNets of multiples of `--width`. The paper's figure 7 prints no numbers; there, deeper and wider is "
    "better throughout. Its table 6 has numbers for three of them.",
    axes=("encoder", "width"),
    cells=grid(
        values("encoder", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), multiples("width", 1, 2, 4)
    ),
    paper={("resnet50", "1"): (69.3,), ("resnet50", "2"): (74.2,), ("resnet50", "4"): (76.5,)},
    source="Table 6: ImageNet, 1000 epochs, linear evaluation",
    figure="parameters",
)
