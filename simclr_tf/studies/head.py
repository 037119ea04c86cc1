"""Projection heads and their dimension: the paper's figure 8."""

from simclr_tf.studies.study import Cell, Study, grid, values

STUDY = Study(
    title="Projection heads",
    question="Heads of different kinds and output dimensions; without a head, z is h. The paper's figure 8 prints no "
    "numbers; its text says that nonlinear is ahead of linear by 3 points and of none by more than 10, whatever the "
    "dimension. It is h that is judged; `evaluate.py --layer=2` judges z, which the paper finds more than 10 points "
    "behind.",
    axes=("head", "dimension"),
    cells=(
        Cell(("none", "of h"), {"projection": "none"}),
        *grid(
            values("projection", "linear", "nonlinear"),
            values("projection_dim", 32, 64, 128, 256, 512, 1024, 2048),
        ),
    ),
)
