"""Which contrastive loss: the paper's table 4."""

from simclr_tf.studies.study import Study, grid, values

STUDY = Study(
    title="Contrastive losses",
    question="Losses with all negatives and with semi-hard ones only. Temperature, margin and learning rate are those of "
    "the command line, where the paper tuned them for each loss (appendix B.10); `decoupled` is not of the paper.",
    axes=("semi-hard", "loss"),
    cells=grid(
        {"no": {"semi_hard": False}, "yes": {"semi_hard": True}},
        values("loss", "margin_triplet", "nt_logistic", "nt_xent", "decoupled"),
    ),
    paper={
        ("no", "margin_triplet"): (50.9,),
        ("no", "nt_logistic"): (51.6,),
        ("yes", "margin_triplet"): (57.5,),
        ("yes", "nt_logistic"): (57.9,),
        ("no", "nt_xent"): (63.9,),
    },
    source="Table 4: ImageNet, ResNet-50, linear evaluation",
)
