"""How strong the color distortion should be: the paper's table 1."""

from simclr_tf.studies.study import Cell, Study, grid, values

STUDY = Study(
    title="Strength of the color distortion",
    question="The paper's augmentation with stronger and stronger color distortion, without and with blur, and the "
    "policy that supervised learning chose, AutoAugment.",
    axes=("blur", "strength"),
    cells=(
        *grid({"no": {"blur": False}, "yes": {"blur": True}}, values("color_strength", 0.125, 0.25, 0.5, 1)),
        Cell(("no", "AutoAugment"), {"augmentations": "autoaugment"}),
    ),
    paper={
        ("no", "0.125"): (59.6,),
        ("no", "0.25"): (61.0,),
        ("no", "0.5"): (62.6,),
        ("no", "1"): (63.2,),
        ("yes", "1"): (64.5,),
        ("no", "AutoAugment"): (61.1,),
    },
    source="Table 1, row SimCLR: ImageNet, ResNet-50, linear evaluation",
)
