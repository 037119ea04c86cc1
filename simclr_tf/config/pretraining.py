"""The settings of a pretraining run: the one home of every default.

The defaults are the paper's CIFAR-10 recipe (Chen et al., 2020, appendix B.9); of the rates and temperatures that it
tries, 1.0 and 0.5. It names no number of epochs. The command-line flags of the same names are made from the fields.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from simclr_tf.config.base import Section, as_word, setting

AUGMENTATION_NAMES = (
    "autoaugment", "blur", "brightness", "contrast", "crop", "crop_bicubic", "cutout", "flip", "gray", "hue", "invert",
    "jitter", "noise", "posterize", "random_sobel", "rotate", "rotate90", "saturation", "shift", "sobel", "solarize",
)  # fmt: skip
PRESET_NAMES = ("autoaugment", "color_only", "crop_only", "simclr", "simclr_blur", "supervised")
DATASET_NAMES = ("cifar10", "cifar100", "folder", "patterns", "records:GLOB", "tfds:NAME")
ENCODER_NAMES = (
    "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200", "vgg11",
)  # fmt: skip
LOSS_NAMES = ("decoupled", "margin_triplet", "nt_logistic", "nt_xent")
OPTIMIZER_NAMES = ("adamw", "lamb", "lars", "sgd")
PRECISION_NAMES = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
PROJECTION_NAMES = ("linear", "none", "nonlinear")
SIMILARITY_NAMES = ("angular", "bilinear", "cosine", "dot", "negative_euclidean", "negative_manhattan")
STRATEGY_NAMES = ("auto", "single", "mirrored", "multiworker", "tpu")

ADDRESS = r"([\w.-]+):(\d{1,5})"
_NUMBER_OR_PART = r"\d+|\d{1,2}(\.\d+)?%|100%"
_INTERVAL = r"([1-9]\d*) ?(step|minute)s?"

# Sections and settings that say where a run reads, computes and writes, not what; so they may differ when it is continued.
# Another folder of data must have the same fingerprint: of a folder of images, their names.
PLACES = ("hardware", "output")
PLACES_OF_DATA = ("data_dir", "judge_data_dir")


@dataclasses.dataclass(frozen=True)
class Data(Section):
    """Which images to learn from."""

    dataset: str = setting("cifar10", "Data set to read.", choices=DATASET_NAMES)
    data_dir: str | None = setting(None, "Folder that holds the data; CIFAR is downloaded if not given.", path=True)
    image_size: int | None = setting(
        None, "Side of the square images, in pixels; needed for folder, records and tfds.", low=8
    )
    validation_fraction: float = setting(
        0.1, "Part of the training images held out for the validation loss; 0 trains on all, as published recipes do.",
        low=0, high=0.5,
    )  # fmt: skip
    train_fraction: float = setting(1.0, "Fraction of the remaining training images to train on.", above=0, high=1)
    judge_dataset: str | None = setting(
        None,
        "Labeled data for `monitor_every` and for the probes, where `dataset` has no labels.",
        choices=DATASET_NAMES,
    )
    judge_data_dir: str | None = setting(None, "Folder of that data.", path=True)

    def __post_init__(self) -> None:
        """Makes folders absolute, as a run is evaluated elsewhere; raises ValueError for one that is not named.

        The pattern of `records:` stays as it is typed.
        """
        super().__post_init__()
        for name in PLACES_OF_DATA:
            folder = getattr(self, name)
            if folder and "://" not in folder and folder[0] != "~":  # which begins the home of a user who is unknown
                object.__setattr__(self, name, os.path.abspath(folder))
        if self.judge_data_dir and not self.judge_dataset:
            raise ValueError("`judge_data_dir` goes with `judge_dataset`. Received: `judge_data_dir` alone")

    @property
    def side(self) -> int:
        """Side of the images that the encoder takes, in pixels; data that needs no `image_size` has 32 x 32."""
        return self.image_size or 32

    @property
    def judged_on(self) -> tuple[str, str | None]:
        """Name and folder of the data to judge on."""
        return (self.judge_dataset, self.judge_data_dir) if self.judge_dataset else (self.dataset, self.data_dir)


@dataclasses.dataclass(frozen=True)
class Views(Section):
    """How two views are made of an image."""

    augmentations: str = setting(
        "simclr",
        f"Preset ({', '.join(PRESET_NAMES)}) or operators in order, like crop,flip,jitter "
        f"({', '.join(AUGMENTATION_NAMES)}).",
    )
    asymmetric: bool = setting(False, "Crop each image once, then augment the first view only (the paper's ablation).")
    color_strength: float = setting(0.5, "Strength s of the color distortion (appendix A).", low=0, high=2)
    blur: bool = setting(False, "Blur half of the views (the paper does so on ImageNet, not on CIFAR-10).")
    crop_area: float = setting(0.08, "Smallest area of a crop, as a part of the image's.", low=1e-6, high=1)
    crop_law: str = setting(
        "paper",
        "Distribution of the crops: paper (area uniform), google (that of TensorFlow's op, which the paper's code calls).",
        choices=("google", "paper"),
    )
    gray_probability: float = setting(0.2, "Probability that a view is gray.", low=0, high=1)

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown augmentation."""
        super().__post_init__()
        if self.augmentations in PRESET_NAMES:
            return
        for name in self.augmentations.split(","):
            if name not in AUGMENTATION_NAMES:
                raise ValueError(
                    f"`augmentations` must be a preset of {', '.join(PRESET_NAMES)}, or a list of "
                    f"{', '.join(AUGMENTATION_NAMES)}. Received: {name}"
                )


@dataclasses.dataclass(frozen=True)
class Network(Section):
    """The encoder f and the projection head g."""

    encoder: str = setting(
        "resnet50",
        f"Encoder architecture ({', '.join(ENCODER_NAMES)}), or module:function for a function of yours that takes "
        "the images' shape and returns a keras.Model.",
    )
    width: float = setting(1.0, "Multiplier of every layer's channels.", above=0, high=8)
    stem: str = setting(
        "auto",
        "First layer: cifar (3x3, stride 1), imagenet (7x7, stride 2, max-pool), auto by image size.",
        choices=("auto", "cifar", "imagenet"),
    )
    projection: str = setting("nonlinear", "Projection head.", choices=PROJECTION_NAMES)
    projection_dim: int = setting(128, "Dimension of the projection z.", low=1)
    projection_layers: int = setting(1, "Hidden layers of the nonlinear head.", low=1, high=4)
    projection_width: int | None = setting(None, "Width of its hidden layers; that of h when not given.", low=1)
    projection_bn: bool = setting(True, "Batch norm in its hidden layers.")
    projection_last_bn: bool = setting(False, "Batch norm after its last layer, too, as in the paper's code.")

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown encoder, or for settings that the encoder or the head does not have."""
        super().__post_init__()
        module, colon, function = self.encoder.partition(":")
        if self.encoder not in ENCODER_NAMES and not (module and function):
            raise ValueError(
                f"`encoder` must be one of {', '.join(ENCODER_NAMES)}, or module:function. Received: {self.encoder}"
            )
        if colon and (self.width != 1 or self.stem != "auto"):
            raise ValueError(
                f"`encoder={self.encoder}` decides for itself about width and stem: leave these flags out. "
                f"Received: `width={self.width:g}` `stem={self.stem}`"
            )
        hidden = (self.projection_layers, self.projection_width, self.projection_bn)
        if self.projection != "nonlinear" and hidden != (1, None, True):
            raise ValueError(
                "`projection_layers`, `projection_width` and `projection_bn` go with `projection=nonlinear`; "
                f"`projection_width=` takes away that of a flagfile. Received: `projection={self.projection}` "
                f"`projection_layers={hidden[0]}` `projection_width={hidden[1]}` `projection_bn={hidden[2]}`"
            )
        if self.projection == "none" and self.projection_last_bn:
            raise ValueError("`projection_last_bn` needs a projection head. Received: `projection=none`")

    @property
    def last_layer(self) -> int:
        """The number of the head's last layer, whose output is z; 0 where there is no head."""
        return {"none": 0, "linear": 1}.get(self.projection, self.projection_layers + 1)


@dataclasses.dataclass(frozen=True)
class Loss(Section):
    """What is minimized."""

    loss: str = setting("nt_xent", "Contrastive loss.", choices=LOSS_NAMES)
    similarity: str = setting("cosine", "Similarity of two projections.", choices=SIMILARITY_NAMES)
    temperature: float = setting(0.5, "Temperature tau that divides similarities; `margin` applies before it.", above=0)
    margin: float = setting(0.4, "Margin of margin_triplet and of `semi_hard`, in units of similarity.", low=0)
    semi_hard: bool = setting(False, "Learn from semi-hard negatives only: farther than the positive, within `margin`.")
    normalize: bool = setting(True, "Divide projections by their l2 norms first; `similarity=dot` never does.")


@dataclasses.dataclass(frozen=True)
class Optimization(Section):
    """How it is minimized."""

    optimizer: str = setting("lars", "Optimizer.", choices=OPTIMIZER_NAMES)
    learning_rate: float = setting(1.0, "Base learning rate, before `lr_scaling`.", above=0)
    lr_scaling: str = setting(
        "linear",
        "Rate = base x batch / 256 (linear), base x sqrt(batch) (sqrt) or base (none).",
        choices=("linear", "sqrt", "none"),
    )
    weight_decay: float = setting(1e-6, "Weight decay; biases and batch-norm parameters are exempt.", low=0)
    coupled_decay: bool = setting(
        False, "Decay by an L2 penalty in the gradient, as PyTorch's SGD does; only for sgd: lars always does."
    )
    momentum: float = setting(0.9, "Momentum of lars and sgd.", low=0, high=0.9999)
    warmup_epochs: float = setting(
        10.0, "Epochs of linear warm-up, before a cosine decay; a tenth of the run if it is no longer than that.", low=0
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a coupled decay of an optimizer that has none."""
        super().__post_init__()
        if self.coupled_decay and self.optimizer != "sgd":
            raise ValueError(f"`coupled_decay` is a choice of `optimizer=sgd`. Received: `optimizer={self.optimizer}`")


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """How long, with which batch and precision."""

    batch_size: int = setting(1024, "Images a step over all devices (the global batch).", low=2)
    accumulate: int = setting(
        1, "Number of parts in which a device runs its images through the networks, to save memory; the loss is over "
        "all parts, batch norm over each.", low=1,
    )  # fmt: skip
    epochs: int = setting(1000, "Passes over the training images.", low=1)
    resolutions: str | None = setting(
        None, "Sides of the views in equal parts of the run, like 16,16,24,32; the last must be `image_size`."
    )
    init_from: str | None = setting(
        None, "Weights to start from: a run's folder, a SavedModel, or a .keras or .weights.h5 file.", path=True
    )
    max_steps: int | None = setting(
        None, "Stop this invocation once the run has taken this many steps in total.", low=1
    )
    precision: str = setting(
        "float32", "Keras dtype policy of the networks; auto takes mixed_bfloat16 where the devices are faster in it.",
        choices=PRECISION_NAMES,
    )  # fmt: skip
    seed: int = setting(0, "Seed of initial weights, order of images and augmentation.", low=0, high=2**31 - 1)
    deterministic: bool = setting(False, "Use deterministic kernels only: the same command gives the same numbers.")

    def __post_init__(self) -> None:
        """Raises ValueError for resolutions that are no list of sides."""
        super().__post_init__()
        sides = (self.resolutions or "8").split(",")
        if not all(side.isdecimal() and int(side) >= 8 for side in sides) or len(sides) > self.epochs:
            raise ValueError(
                "`resolutions` must be sides of 8 pixels or more, like 16,16,24,32, no more of them than epochs; "
                "`resolutions=` takes away those of a flagfile. "
                f"Received: `resolutions={self.resolutions}` with `epochs={self.epochs}`"
            )

    @property
    def sides(self) -> tuple[int, ...]:
        """The resolutions as numbers; none where views are as large as the images throughout."""
        return tuple(map(int, self.resolutions.split(","))) if self.resolutions else ()

    @property
    def full_size_from(self) -> int:
        """The first epoch, counted from 0, from which on all views have the last resolution."""
        earlier = len(self.sides)
        while earlier and self.sides[earlier - 1] == self.sides[-1]:
            earlier -= 1
        return math.ceil(earlier * self.epochs / len(self.sides)) if earlier else 0


@dataclasses.dataclass(frozen=True)
class Hardware(Section):
    """Where it runs. Changes nothing but rounding, unless batch norm is over parts of a device's images (`accumulate`)."""

    strategy: str = setting(
        "auto",
        "tf.distribute strategy; auto takes every GPU of this machine, or the CPU; with TF_CONFIG, multiworker.",
        choices=STRATEGY_NAMES,
    )
    tpu: str = setting("local", "TPU to use with `strategy=tpu`: local, a name, or grpc://host:port.")
    communication: str = setting(
        "auto",
        "How several workers exchange tensors: ring (gRPC), nccl (GPUs), or what TensorFlow finds best.",
        choices=("auto", "ring", "nccl"),
    )
    logical_cpus: int = setting(1, "Split the CPU into this many devices, to try `strategy=mirrored`.", low=1, high=64)
    data_service: str | None = setting(
        None, "Dispatcher, host:port, of a tf.data service whose workers decode the images (docs/scaling.md)."
    )

    def __post_init__(self) -> None:
        """Raises ValueError for what is no address."""
        super().__post_init__()
        if self.data_service and not re.fullmatch(ADDRESS, self.data_service):
            raise ValueError(f"`data_service` must be like host:5050. Received: {self.data_service}")


@dataclasses.dataclass(frozen=True)
class Output(Section):
    """What a run leaves on disk."""

    run_dir: str | None = setting(None, "Folder of the run's files; runs/<date-time-name> when not given.", path=True)
    overwrite: bool = setting(False, "Delete what `run_dir` holds and start again.")
    resume: bool = setting(False, "Continue the run in `run_dir` from its newest checkpoint, if there is one.")
    checkpoint_epochs: int = setting(10, "Save a checkpoint every this many epochs, and at the end.", low=1)
    save_every: str | None = setting(None, "Save within epochs, too: every 500steps, or every 10minutes.")
    keep_checkpoints: int = setting(
        2, "How many of the newest checkpoints to keep, beside that of the lowest validation loss.", low=1
    )
    on_nan: str = setting(
        "stop", "What to do in a step whose loss or gradient is not finite: end the run, or go on without the step.",
        choices=("skip", "stop"),
    )  # fmt: skip
    max_bad_files: str = setting(
        "0.1%", "How many images may turn out to be damaged during a run, each replaced by the next: a number, or a share "
        "of all images, like 0.1% (rounded up). Each worker counts its own from its start.",
    )  # fmt: skip
    profile: bool = setting(False, "Trace ten steps for TensorBoard, and print where their time went.")
    monitor_every: int | None = setting(
        None, "Measure rank, alignment, uniformity and, where there are labels, kNN accuracy every this many epochs.",
        low=1,
    )  # fmt: skip
    on_collapse: str = setting(
        "warn", "What to do when `monitor_every` finds that all projections are alike.", choices=("stop", "warn")
    )

    def __post_init__(self) -> None:
        """Raises ValueError for settings that exclude each other."""
        super().__post_init__()
        if self.resume and not self.run_dir:
            raise ValueError("`resume` needs `run_dir`, the run to continue. Received: no `run_dir`")
        if self.resume and self.overwrite:
            raise ValueError("`resume` and `overwrite` exclude each other. Received: both")
        if self.save_every and not re.fullmatch(_INTERVAL, self.save_every):
            raise ValueError(f"`save_every` must be like 500steps or 10minutes. Received: {self.save_every}")

        if not re.fullmatch(_NUMBER_OR_PART, self.max_bad_files):
            raise ValueError(f"`max_bad_files` must be like 20 or 0.1%. Received: {self.max_bad_files}")

    def bad_files(self, images: int) -> int:
        """How many of so many images may be damaged."""
        number = float(self.max_bad_files.rstrip("%"))
        return math.ceil(number / 100 * images) if self.max_bad_files.endswith("%") else int(number)

    @property
    def save_steps(self) -> int | None:
        """Steps between two checkpoints."""
        return self._every("step")

    @property
    def save_minutes(self) -> int | None:
        """Minutes between two checkpoints."""
        return self._every("minute")

    def _every(self, unit: str) -> int | None:
        match = re.fullmatch(_INTERVAL, self.save_every or "")
        return int(match[1]) if match and match[2] == unit else None


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a pretraining run."""

    data: Data = dataclasses.field(default_factory=Data)
    augmentation: Views = dataclasses.field(default_factory=Views)
    network: Network = dataclasses.field(default_factory=Network)
    objective: Loss = dataclasses.field(default_factory=Loss)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    training: Training = dataclasses.field(default_factory=Training)
    hardware: Hardware = dataclasses.field(default_factory=Hardware)
    output: Output = dataclasses.field(default_factory=Output)

    @classmethod
    def sections(cls) -> dict[str, Any]:
        """The groups of settings by name: their dataclasses."""
        return {field.name: field.type for field in dataclasses.fields(cls)}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, one mapping a section."""
        return dataclasses.asdict(self)

    def flagfile(self) -> str:
        """The flags that spell the settings, one a line, without those that say where this run writes."""
        lines = [
            as_word(name, value)
            for settings in self.to_dict().values()
            for name, value in settings.items()
            if value is not None and name not in ("run_dir", "overwrite", "resume")
        ]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, dict[str, Any]]) -> Self:
        """The inverse of `to_dict`; raises ValueError on a section or setting that this version does not have."""
        sections = cls.sections()
        unknown = set(values) - set(sections)
        for name in set(values) & set(sections):
            unknown |= set(values[name]) - {field.name for field in dataclasses.fields(sections[name])}
        if unknown:
            raise ValueError(
                f"The configuration has settings that are unknown to this version. Received: {sorted(unknown)}"
            )
        return cls(**{name: sections[name](**settings) for name, settings in values.items()})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a `config.json`; raises ValueError, naming the file and the setting, if it is missing or is not one."""
        try:
            values = json.loads(Path(path).read_text())
            # Runs of earlier versions may have empty paths, which meant none.
            paths = {field.name for kind in cls.sections().values() for field in dataclasses.fields(kind)
                     if field.metadata["path"]}  # fmt: skip
            return cls.from_dict({section: {name: value or None if name in paths else value for name, value in each.items()}
                                  for section, each in values.items()})  # fmt: skip
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"Expected the config.json of a run. Received: {path} ({error})") from error

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """The configuration of these settings, which need no sections because no two have the same name.

        Example:
            >>> Config.of(dataset="patterns", encoder="resnet18", width=0.25, batch_size=128, epochs=6)

        Raises:
            ValueError: On an unknown or illegal setting.
        """
        sections: dict[str, dict[str, Any]] = {name: {} for name in cls.sections()}
        for name, value in settings.items():
            sections[section_of(name)][name] = value
        return cls.from_dict(sections)

    def replace(self, section: str, **changes: Any) -> Self:
        """A copy with some settings of one section changed."""
        return dataclasses.replace(self, **{section: dataclasses.replace(getattr(self, section), **changes)})

    def difference(
        self, folder: str | Path, aside: Collection[str] = (), same_data_dir: bool = False
    ) -> tuple[str, Any, Any] | None:
        """The first setting in which a run in a folder differs, places and some aside: name, value there, and here.

        `same_data_dir` counts where the data lies, too.
        """
        path = Path(folder) / "config.json"
        saved = Config.load(path) if path.exists() else self
        for settings in self.to_dict().values():
            for name, value in settings.items():
                decided = name == "precision" and value == "auto"  # by the machine, when that run began
                place = is_place(name) and not (same_data_dir and name in PLACES_OF_DATA)
                if not place and name not in aside and value != saved.value(name) and not decided:
                    return name, saved.value(name), value
        return None

    def value(self, name: str) -> Any:
        """The value of a setting, whichever section it is in."""
        return getattr(getattr(self, section_of(name)), name)


def is_place(name: str) -> bool:
    """Whether a setting is one of `PLACES` or `PLACES_OF_DATA`."""
    return name in PLACES_OF_DATA or section_of(name) in PLACES


def section_of(name: str) -> str:
    """The name of the section that has a setting; raises ValueError if none has."""
    for section, kind in Config.sections().items():
        if name in {field.name for field in dataclasses.fields(kind)}:
            return section
    raise ValueError(f"`{name}` is not a setting. Received: {name}")
