"""Base networks of other families; the paper has ResNets only."""

from simclr_tf.studies.study import Study, grid, values

STUDY = Study(
    title="Base networks",
    question="Encoders of different families, all at `--width`. The paper does not make this comparison.",
    axes=("encoder",),
    cells=grid(values("encoder", "resnet18", "resnet34", "resnet50", "vgg11", "mobilenet_v2")),
    figure="parameters",
)
