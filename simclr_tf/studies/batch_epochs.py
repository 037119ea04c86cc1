"""Batch size and length of the training: the paper's figure 9."""

from simclr_tf.studies.study import Study, grid, multiples

# By batch size, after 100, 200, 400 and 800 epochs.
PAPER = {
    256: (57.5, 61.9, 64.7, 66.6),
    512: (60.7, 64.0, 66.2, 67.8),
    1024: (62.8, 65.3, 67.2, 68.5),
    2048: (64.0, 66.1, 68.1, 68.9),
    4096: (64.6, 66.5, 68.2, 68.9),
    8192: (64.8, 66.6, 67.8, 69.0),
}
EPOCHS = (100, 200, 400, 800)

STUDY = Study(
    title="Batch size and epochs",
    question="Multiples of `--batch_size` and `--epochs`; the learning rate follows the batch as `--lr_scaling` says, "
    "and `--warmup_epochs` stays. In the paper larger batches are ahead, the less so the longer the training; its "
    "numbers stand beside cells of the same batch and epochs, such as those of `--batch_size=1024 --epochs=400`.",
    axes=("batch", "epochs"),
    cells=grid(multiples("batch_size", 1 / 4, 1 / 2, 1, 2), multiples("epochs", 1 / 4, 1 / 2, 1)),
    paper={
        (str(batch), str(epochs)): (top1,)
        for batch, row in PAPER.items()
        for epochs, top1 in zip(EPOCHS, row, strict=True)
    },
    source="Table B.1, linear scaling of the learning rate: ImageNet, ResNet-50, linear evaluation",
)
