"""The settings of the project: frozen dataclasses that validate, the one home of every default. No TensorFlow in here."""

from simclr_tf.config.base import Section, as_word, field_type, setting
from simclr_tf.config.evaluation import (
    MODES,
    Embed,
    Export,
    Files,
    Finetune,
    Invariance,
    Judged,
    Knn,
    Linear,
    LinearSgd,
    Mode,
    Neighbors,
    Probe,
    PseudoLabel,
    Reads,
    Report,
    Supervised,
    Trained,
    Transfer,
    mode_settings,
    split_target,
)
from simclr_tf.config.pretraining import (
    ADDRESS,
    PLACES,
    PLACES_OF_DATA,
    Config,
    Data,
    Hardware,
    Loss,
    Network,
    Optimization,
    Output,
    Training,
    Views,
    is_place,
)  # fmt: skip

__all__ = [
    "ADDRESS", "MODES", "PLACES", "PLACES_OF_DATA", "Config", "Data", "Embed", "Export", "Files", "Finetune",
    "Hardware", "Invariance", "Judged", "Knn", "Linear", "LinearSgd", "Loss", "Mode", "Neighbors", "Network",
    "Optimization", "Output", "Probe", "PseudoLabel", "Reads", "Report", "Section", "Supervised", "Trained", "Training",
    "Transfer", "Views", "as_word", "field_type", "is_place", "mode_settings", "setting", "split_target",
]  # fmt: skip
