"""Batch size and length of the training: the paper's figure 9."""

from simclr_tf.studies.study import Study, grid, multiples

STUDY = Study(
    title="Batch size and epochs",
    question="Multiples of `--batch_size` and `--epochs`; the learning rate follows the batch as `--lr_scaling` says, "
    "and `--warmup_epochs` stays. The paper's figure 9 prints no numbers; there, larger batches are ahead, the less so "
    "the longer the training.",
    axes=("batch", "epochs"),
    cells=grid(multiples("batch_size", 1 / 4, 1 / 2, 1, 2), multiples("epochs", 1 / 4, 1 / 2, 1)),
)
