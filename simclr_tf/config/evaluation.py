"""The settings of an evaluation: what every mode takes, and a section for each mode."""

import dataclasses
import os
from typing import Any, ClassVar

from simclr_tf.config.base import Section, setting
from simclr_tf.config.pretraining import DATASET_NAMES, STRATEGY_NAMES


@dataclasses.dataclass(frozen=True)
class Mode(Section):
    """What every mode of `evaluate` takes."""

    summary: ClassVar[str] = ""
    both_ends: ClassVar[bool] = False  # whether it looks at h and at the projection, whatever the layer

    layer: int = setting(
        0, "Layer to evaluate or export: 0 for h, k for the k-th layer of the projection head, the last being z.", low=0
    )
    checkpoint: str = setting(
        "newest", "Checkpoint of the run to take: newest, best (of the lowest validation loss), or a number of epochs."
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a layer where there is no choice, or for what names no checkpoint."""
        object.__setattr__(self, "checkpoint", str(self.checkpoint))
        super().__post_init__()
        if self.checkpoint not in ("best", "newest") and not (self.checkpoint.isdecimal() and int(self.checkpoint)):
            raise ValueError(
                f"`checkpoint` must be newest, best or a number of epochs. Received: `checkpoint={self.checkpoint}`"
            )
        if self.both_ends and self.layer:
            raise ValueError(f"This mode looks at h and at the projection: leave `layer` out. Received: {self.layer}")


@dataclasses.dataclass(frozen=True)
class Reads(Mode):
    """A mode that reads a data set."""

    data_dir: str | None = setting(None, "Folder of the data; if not given, that of the run.", path=True)

    @property
    def reads_data(self) -> bool:
        """Whether it does, with these settings."""
        return True


@dataclasses.dataclass(frozen=True)
class Judged(Reads):
    """A mode that can read another data set than the run's."""

    dataset: str | None = setting(
        None, "Data to evaluate or embed; if not given, that of the run.", choices=DATASET_NAMES
    )


@dataclasses.dataclass(frozen=True)
class Probe(Judged):
    """A probe of frozen features, optionally compared with baselines."""

    baselines: bool = setting(False, "Also evaluate the encoder at random initialization and raw pixels.")


@dataclasses.dataclass(frozen=True)
class Linear(Probe):
    """Settings of `linear`."""

    summary: ClassVar[str] = "Logistic regression on frozen features, its L2 strength chosen on held-out images."


@dataclasses.dataclass(frozen=True)
class LinearSgd(Probe):
    """Settings of `linear_sgd`."""

    summary: ClassVar[str] = "The paper's linear layer, trained by SGD on crops and flips with the encoder frozen."

    epochs: int = setting(90, "Passes over the images.", low=1)
    batch_size: int = setting(256, "Images a step; all of them where there are fewer.", low=2)


@dataclasses.dataclass(frozen=True)
class Knn(Probe):
    """Settings of `knn`."""

    summary: ClassVar[str] = "Weighted vote of the nearest training images by cosine similarity."

    k: str = setting(
        "20",
        "How many nearest training images vote; several, like 20,1,5,200, are all evaluated, the first as the result.",
    )

    def __post_init__(self) -> None:
        """Raises ValueError for anything but whole numbers above 0; a single one may be an int."""
        object.__setattr__(self, "k", str(self.k))
        super().__post_init__()
        if not all(part.isdecimal() and int(part) for part in self.k.split(",")):
            raise ValueError(f"`k` must be whole numbers above 0, like 20 or 20,1,5,200. Received: {self.k}")

    @property
    def neighbors(self) -> tuple[int, ...]:
        """The numbers."""
        return tuple(map(int, self.k.split(",")))


@dataclasses.dataclass(frozen=True)
class Trained(Mode):
    """A protocol that trains all layers on labels."""

    batch_size: int = setting(256, "Images a step; all of them where there are fewer.", low=2)
    epochs: int | None = setting(
        None, "Passes over the images; if not given, 60 for up to 1 % of the labels, else 30, or more to make 1000 steps.",
        low=1,
    )  # fmt: skip
    seed: int = setting(0, "Seed of the choice of images and of the training.", low=0, high=2**31 - 1)
    strategy: str = setting("auto", "tf.distribute strategy.", choices=STRATEGY_NAMES)


@dataclasses.dataclass(frozen=True)
class Finetune(Judged, Trained):
    """Settings of `finetune`: the paper's (appendix B.5), but for the batch and the least number of steps."""

    summary: ClassVar[str] = "All layers trained on a part of the labels, from the pretrained encoder."

    label_fraction: float = setting(
        1.0, "Part of the labeled images to learn from, equally many of each class.", above=0, high=1
    )
    learning_rate: float = setting(0.05, "Learning rate for a batch of 256; scales with the batch.", above=0)
    weight_decay: float = setting(0.0, "Weight decay.", low=0)

    def name(self, mode: str) -> str:
        """The name of the folder of its results."""
        return f"{mode}-{self.label_fraction:g}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Supervised(Finetune):
    """Settings of `supervised`."""

    summary: ClassVar[str] = "The same network and augmentations from scratch on the same labels: the baseline."

    learning_rate: float = setting(0.1, "Learning rate for a batch of 256; scales with the batch.", above=0)
    weight_decay: float = setting(1e-4, "Weight decay.", low=0)

    def __post_init__(self) -> None:
        """Raises ValueError for a checkpoint, of which it takes nothing."""
        super().__post_init__()
        if self.checkpoint != "newest":
            raise ValueError(
                "`mode=supervised` begins at random weights: leave `checkpoint` out. "
                f"Received: `checkpoint={self.checkpoint}`"
            )


@dataclasses.dataclass(frozen=True)
class Transfer(Trained):
    """Settings of `transfer`."""

    summary: ClassVar[str] = "A linear probe and fine-tuning on other data, in one table."

    targets: str | None = setting(None, "Labeled data to transfer to, like cifar100:DIR,folder:PATH.")

    def __post_init__(self) -> None:
        """Raises ValueError without targets, or for an unknown one."""
        super().__post_init__()
        known = {name.partition(":")[0] for name in DATASET_NAMES}
        if not self.each or not {target.partition(":")[0] for target in self.each} <= known:
            raise ValueError(
                f"`targets` must be of {', '.join(DATASET_NAMES)}, with a folder where there is one, like folder:PATH. "
                f"Received: {self.targets}"
            )
        if ("folder", None) in map(split_target, self.each):
            raise ValueError(f"`targets` names a folder like folder:PATH. Received: {self.targets}")

    @property
    def each(self) -> list[str]:
        """The targets."""
        return self.targets.split(",") if self.targets else []


def split_target(target: str) -> tuple[str, str | None]:
    """Name and folder of `name`, `name:folder`, or a name that has a colon itself, such as tfds:NAME."""
    name, _, folder = target.partition(":")
    has_colon = any(known.startswith(f"{name}:") for known in DATASET_NAMES)
    return (target, None) if has_colon else (name, os.path.expanduser(folder) or None)


@dataclasses.dataclass(frozen=True)
class Report(Reads):
    """Settings of `report`."""

    summary: ClassVar[str] = "A page that needs no labels: whether the run is healthy, and what the encoder sees."
    both_ends: ClassVar[bool] = True

    sample: int = setting(1000, "How many images to look at.", low=2, high=4000)


@dataclasses.dataclass(frozen=True)
class Invariance(Judged):
    """Settings of `invariance`."""

    summary: ClassVar[str] = "What h keeps and g(h) loses: classifiers that detect color, rotation, noise and edges."
    both_ends: ClassVar[bool] = True
    # The paper's accuracies (table 3), %, by what is to be predicted: of a guess, from h, from g(h).
    paper: ClassVar[dict[str, tuple[float, float, float]]] = {
        "color or gray": (80.0, 99.3, 97.4), "rotation": (25.0, 67.6, 25.6), "original or noisy": (50.0, 99.5, 59.6),
        "original or Sobel filtered": (50.0, 96.6, 56.3),
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Files(Mode):
    """A mode that takes image files."""

    images_needed: ClassVar[bool] = True

    images: str | None = setting(None, "Image files or folders of them, separated by commas.")
    max_bad_files: int = setting(0, "How many unreadable files to skip and name, instead of ending.", low=0)

    def __post_init__(self) -> None:
        """Raises ValueError without images."""
        super().__post_init__()
        if self.images_needed and not self.images:
            raise ValueError("`images` is needed, image files or folders of them. Received: no `images`")

    @property
    def places(self) -> list[str]:
        """The files and folders."""
        return _places(self.images)


def _places(listed: str | None) -> list[str]:
    return [os.path.expanduser(place) for place in (listed or "").split(",")]


@dataclasses.dataclass(frozen=True)
class Embed(Files, Judged):
    """Settings of `embed`."""

    summary: ClassVar[str] = (
        "The representation of each image, with its file's name or its label, in one file for other programs."
    )
    images_needed: ClassVar[bool] = False

    format: str = setting(
        "npz", "npz (NumPy) or parquet (pandas, Spark, DuckDB; needs pyarrow).", choices=("npz", "parquet")
    )
    out: str | None = setting(
        None, "File to write; (dataset_)embeddings.<format> in the run's evaluation/ when not given.", path=True
    )

    def __post_init__(self) -> None:
        """Raises ValueError for files and a data set at once."""
        super().__post_init__()
        if self.images and (self.dataset or self.data_dir):
            raise ValueError(
                "`images` takes files, `dataset` and `data_dir` a data set: name one of them. "
                f"Received: `images={self.images}` and `{'dataset' if self.dataset else 'data_dir'}`"
            )
        if self.max_bad_files and not self.images:
            raise ValueError(
                f"`max_bad_files` goes with `images`. Received: `max_bad_files={self.max_bad_files}` alone"
            )

    @property
    def reads_data(self) -> bool:
        """Whether it reads a data set: that of the run where no files are named."""
        return not self.images


@dataclasses.dataclass(frozen=True)
class Neighbors(Files):
    """Settings of `neighbors`."""

    summary: ClassVar[str] = "The nearest images of a folder for each query image, as a picture and as CSV."

    among: str | None = setting(None, "Image files or folders to search, separated by commas; `images` when not given.")
    nearest: int = setting(8, "How many of the nearest to show.", low=1)

    @property
    def searched(self) -> list[str]:
        """The files and folders to search."""
        return _places(self.among or self.images)


@dataclasses.dataclass(frozen=True)
class PseudoLabel(Files, Judged):
    """Settings of `pseudo_label`."""

    summary: ClassVar[str] = "Labels for unlabeled images, with confidence, from a probe that learned on labeled ones."

    by: str = setting(
        "linear",
        "What assigns the labels: the linear probe, or a vote of the nearest images.",
        choices=("knn", "linear"),
    )
    threshold: float = setting(0.0, "Leave out labels with lower confidence.", low=0, high=1)


EXPORT_FORMATS = ("saved_model", "keras", "onnx", "litert", "litert_int8")


@dataclasses.dataclass(frozen=True)
class Export(Reads):
    """Settings of `export`."""

    summary: ClassVar[str] = "The encoder, and a classifier on it, in files that need nothing of this project."

    format: str = setting(
        "saved_model", f"What to write, separated by commas, of {', '.join(EXPORT_FORMATS)}; onnx needs tf2onnx, "
        "litert needs ai-edge-litert.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown format."""
        super().__post_init__()
        if unknown := sorted(set(self.each) - set(EXPORT_FORMATS)):
            raise ValueError(f"`format` must be of {', '.join(EXPORT_FORMATS)}. Received: {', '.join(unknown)}")
        if self.data_dir and not self.reads_data:
            raise ValueError(f"`data_dir` goes with litert and litert_int8. Received: `format={self.format}`")

    @property
    def each(self) -> list[str]:
        """The formats."""
        return self.format.split(",")

    @property
    def reads_data(self) -> bool:
        """Whether it compares a format with the encoder, on images of the run's data."""
        return any(name.startswith("litert") for name in self.each)


MODES: dict[str, type[Mode]] = {
    "embed": Embed,
    "export": Export,
    "finetune": Finetune,
    "invariance": Invariance,
    "knn": Knn,
    "linear": Linear,
    "linear_sgd": LinearSgd,
    "neighbors": Neighbors,
    "pseudo_label": PseudoLabel,
    "report": Report,
    "supervised": Supervised,
    "transfer": Transfer,
}


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
