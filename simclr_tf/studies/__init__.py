"""The paper's comparisons, one command each: `python -m simclr_tf.studies NAME`.

To add one, write a file with a `STUDY` and give it a row in `STUDIES`.
"""

from simclr_tf.studies import (
    augmentation_pairs,
    base_network,
    batch_epochs,
    color_strength,
    depth_width,
    head,
    loss,
    similarity,
    temperature,
)
from simclr_tf.studies.study import Study

STUDIES: dict[str, Study] = {
    "augmentation_pairs": augmentation_pairs.STUDY,
    "base_network": base_network.STUDY,
    "batch_epochs": batch_epochs.STUDY,
    "color_strength": color_strength.STUDY,
    "depth_width": depth_width.STUDY,
    "head": head.STUDY,
    "loss": loss.STUDY,
    "similarity": similarity.STUDY,
    "temperature": temperature.STUDY,
}
