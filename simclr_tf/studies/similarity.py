"""Which similarity of two projections; the paper has only cosine and, in table 5, the dot product."""

from simclr_tf.studies.study import Study, grid, values

STUDY = Study(
    title="Similarities",
    question="Similarities of the projections at two temperatures, since their ranges differ. The paper does not make "
    "this comparison.",
    axes=("temperature", "similarity"),
    cells=grid(
        values("temperature", 0.1, 0.5),
        values("similarity", "cosine", "dot", "negative_euclidean", "negative_manhattan", "angular", "bilinear"),
    ),
)
