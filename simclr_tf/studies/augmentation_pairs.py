"""Which transformations must be composed: the paper's figure 5."""

from simclr_tf.studies.study import Cell, Study

# The paper's seven, and the flip, which its crop includes.
TRANSFORMATIONS = {
    "crop": "crop",
    "cutout": "cutout",
    "color": "jitter,gray",
    "sobel": "sobel",
    "noise": "noise",
    "blur": "blur",
    "rotate": "rotate90",  # figure 4: by 90, 180 or 270 degrees
    "flip": "flip",
}
PAPER = {
    "crop": (33.1, 33.9, 56.3, 46.0, 39.9, 35.0, 30.2),
    "cutout": (32.2, 25.6, 33.9, 40.0, 26.5, 25.2, 22.4),
    "color": (55.8, 35.5, 18.8, 21.0, 11.4, 16.5, 20.8),
    "sobel": (46.2, 40.6, 20.9, 4.0, 9.3, 6.2, 4.2),
    "noise": (38.8, 25.8, 7.5, 7.6, 9.8, 9.8, 9.6),
    "blur": (35.1, 25.2, 16.6, 5.8, 9.7, 2.6, 6.7),
    "rotate": (30.0, 22.5, 20.7, 4.3, 9.7, 6.5, 2.6),
}


def _cell(first: str, second: str) -> Cell:
    names = dict.fromkeys([first, second])  # on the diagonal, one
    together = ",".join(TRANSFORMATIONS[name] for name in names)
    return Cell((first, second), {"augmentations": together, "asymmetric": True})


STUDY = Study(
    title="Compositions of two transformations",
    question="Each image is cropped once; then one branch gets the first transformation and after it the second, on the "
    "diagonal one alone, and the other is left as it is (`--asymmetric`). Color is jitter and gray at `--color_strength`.",
    axes=("first", "second"),
    cells=tuple(_cell(first, second) for first in TRANSFORMATIONS for second in TRANSFORMATIONS),
    paper={(first, second): (top1,) for first, row in PAPER.items() for second, top1 in zip(PAPER, row, strict=True)},
    source="Figure 5: ImageNet, ResNet-50, linear evaluation",
    figure="heatmap",
)
