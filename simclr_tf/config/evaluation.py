"""The settings of an evaluation: what every mode takes, and a section for each mode."""

import dataclasses
from typing import Any, ClassVar

from simclr_tf.config.base import Section, setting
from simclr_tf.config.pretraining import DATASET_NAMES


@dataclasses.dataclass(frozen=True)
class Mode(Section):
    """What every mode of `evaluate` takes."""

    summary: ClassVar[str] = ""

    layer: int = setting(
        0, "What to judge or export: 0 for h, k for the k-th layer of the projection head, the last being z.", low=0
    )


@dataclasses.dataclass(frozen=True)
class Probe(Mode):
    """A probe of frozen features: what it is judged on, and beside which baselines."""

    dataset: str | None = setting(None, "Labeled data to judge on, when not that of the run.", choices=DATASET_NAMES)
    data_dir: str | None = setting(None, "Folder of that data, when not that of the run.", path=True)
    baselines: bool = setting(False, "Judge the encoder at random initialization and raw pixels, too.")


@dataclasses.dataclass(frozen=True)
class Linear(Probe):
    """Settings of `linear`."""

    summary: ClassVar[str] = "Logistic regression on frozen features, its L2 strength chosen on held-out images."


@dataclasses.dataclass(frozen=True)
class Knn(Probe):
    """Settings of `knn`."""

    summary: ClassVar[str] = "Weighted vote of the nearest training images by cosine similarity."

    k: int = setting(20, "How many of the nearest training images vote.", low=1)


@dataclasses.dataclass(frozen=True)
class Export(Mode):
    """Settings of `export`."""

    summary: ClassVar[str] = "The encoder as a SavedModel, with the preprocessing inside."


MODES: dict[str, type[Mode]] = {"export": Export, "knn": Knn, "linear": Linear}


def mode_settings(mode: str, given: dict[str, Any]) -> Mode:
    """The settings of a mode.

    Args:
        mode: A key of `MODES`.
        given: Its settings by name; the others are at their defaults.

    Raises:
        ValueError: On an unknown mode, an illegal value, or a setting that the mode does not have.
    """
    if mode not in MODES:
        lines = ", ".join(f"{name} ({kind.summary.rstrip('.')})" for name, kind in MODES.items())
        raise ValueError(f"`mode` must be one of {lines}. Received: {mode}")
    known = {field.name for field in dataclasses.fields(MODES[mode])}
    if unknown := sorted(set(given) - known):
        raise ValueError(
            f"`{unknown[0]}` has no effect with `mode={mode}`: leave it out. Received: {given[unknown[0]]}"
        )
    return MODES[mode](**given)
