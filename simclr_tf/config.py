"""The settings of a run: frozen, validated dataclasses, and the one home of every default.

The defaults are the paper's CIFAR-10 recipe (Chen et al., 2020, appendix B.9). A field carries its help text and its
legal values, from which the command-line flags of the same names are made. Nothing here imports TensorFlow, so a
misspelt value is refused before a slow import.
"""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Self

AUGMENTATIONS = (
    "autoaugment", "blur", "brightness", "contrast", "crop", "crop_bicubic", "cutout", "flip", "gray", "hue", "invert",
    "jitter", "noise", "posterize", "rotate", "rotate90", "saturation", "shift", "sobel", "solarize",
)  # fmt: skip
AUGMENTATION_PRESETS = ("autoaugment", "color_only", "crop_only", "simclr", "simclr_blur", "supervised")
DATASETS = ("cifar10", "cifar100", "folder", "patterns")
ENCODERS = (
    "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200", "vgg11",
)  # fmt: skip
LOSSES = ("decoupled", "margin_triplet", "nt_logistic", "nt_xent")
OPTIMIZERS = ("adamw", "lamb", "lars", "sgd")
PROJECTIONS = ("linear", "none", "nonlinear")
SIMILARITIES = ("angular", "bilinear", "cosine", "dot", "negative_euclidean", "negative_manhattan")
STRATEGIES = ("auto", "single", "mirrored", "multiworker", "tpu")

# Sections that say where a run computes and writes, not what; so they may differ when it is continued.
PLACES = ("hardware", "output")


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field with its help text and its legal values.

    Args:
        default: the default value.
        help: one sentence for `--help` and the README.
        choices: the legal names, empty for any.
        low: smallest legal value.
        high: largest legal value.
        above: exclusive lower bound.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "choices": choices, "low": low, "high": high, "above": above},
    )


def field_type(field: dataclasses.Field) -> type:
    """The plain type of a field: `int` for both `int` and `int | None`."""
    kind: Any = field.type
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind


def _fault(value: Any, rule: typing.Mapping[str, Any]) -> str | None:
    """What is wrong with `value`, as the end of a sentence, or None."""
    if rule["choices"]:
        return None if value in rule["choices"] else f"be one of {', '.join(rule['choices'])}"
    if isinstance(value, float) and not math.isfinite(value):
        return "be a finite number"
    if rule["low"] is not None and value < rule["low"]:
        return f"be at least {rule['low']}"
    if rule["above"] is not None and value <= rule["above"]:
        return f"be greater than {rule['above']}"
    if rule["high"] is not None and value > rule["high"]:
        return f"be at most {rule['high']}"
    return None


@dataclasses.dataclass(frozen=True)
class Section:
    """A group of settings about one concern; checks each against its field's rule."""

    def __post_init__(self) -> None:
        """Raises ValueError for the first setting outside its legal values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            fault = None if value is None else _fault(value, field.metadata)
            if fault:
                raise ValueError(f"--{field.name} must {fault}. Received: {value}")


@dataclasses.dataclass(frozen=True)
class Data(Section):
    """Which images to learn from."""

    dataset: str = setting("cifar10", "Data set to read.", choices=DATASETS)
    data_dir: str | None = setting(None, "Folder that holds the data; CIFAR is downloaded when it is not given.")
    image_size: int | None = setting(None, "Side of the square images, in pixels; needed for folder.", low=8)
    validation_fraction: float = setting(
        0.1,
        "Part of the training images held out for the validation loss and the probe's tuning.",
        above=0,
        high=0.5,
    )


@dataclasses.dataclass(frozen=True)
class Augmentation(Section):
    """How two views are made of an image."""

    augmentations: str = setting(
        "simclr",
        f"Preset ({', '.join(AUGMENTATION_PRESETS)}) or operators in order, like crop,flip,jitter "
        f"({', '.join(AUGMENTATIONS)}).",
    )
    asymmetric: bool = setting(False, "Crop each image once, then augment the first view only (the paper's ablation).")
    color_strength: float = setting(0.5, "Strength s of the color distortion (appendix A).", low=0, high=2)
    blur: bool = setting(False, "Blur half of the views (the paper does so on ImageNet, not on CIFAR-10).")

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown augmentation."""
        super().__post_init__()
        if self.augmentations in AUGMENTATION_PRESETS:
            return
        for name in self.augmentations.split(","):
            if name not in AUGMENTATIONS:
                raise ValueError(
                    f"--augmentations must be a preset of {', '.join(AUGMENTATION_PRESETS)}, or a list of "
                    f"{', '.join(AUGMENTATIONS)}. Received: {name}"
                )


@dataclasses.dataclass(frozen=True)
class Network(Section):
    """The encoder f and the projection head g."""

    encoder: str = setting(
        "resnet50",
        f"Encoder architecture ({', '.join(ENCODERS)}), or module:function for a function of yours that takes "
        "the images' shape and returns a keras.Model.",
    )
    width: float = setting(1.0, "Multiplier of every layer's channels.", above=0, high=8)
    stem: str = setting(
        "auto",
        "First layer: cifar (3x3, stride 1), imagenet (7x7, stride 2, max-pool), auto by image size.",
        choices=("auto", "cifar", "imagenet"),
    )
    projection: str = setting("nonlinear", "Projection head.", choices=PROJECTIONS)
    projection_dim: int = setting(128, "Dimension of the projection z.", low=1)
    projection_layers: int = setting(1, "Hidden layers of the nonlinear head.", low=1, high=4)
    projection_width: int | None = setting(None, "Width of its hidden layers; that of h when not given.", low=1)
    projection_bn: bool = setting(True, "Batch norm in its hidden layers.")

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown encoder, or for settings that the encoder or the head does not have."""
        super().__post_init__()
        module, colon, function = self.encoder.partition(":")
        if self.encoder not in ENCODERS and not (module and function):
            raise ValueError(
                f"--encoder must be one of {', '.join(ENCODERS)}, or module:function. Received: {self.encoder}"
            )
        if colon and (self.width != 1 or self.stem != "auto"):
            raise ValueError(
                f"--encoder={self.encoder} decides for itself about width and stem: leave these flags out. "
                f"Received: --width={self.width:g} --stem={self.stem}"
            )
        hidden = (self.projection_layers, self.projection_width, self.projection_bn)
        if self.projection != "nonlinear" and hidden != (1, None, True):
            raise ValueError(
                "--projection_layers, --projection_width and --projection_bn go with --projection=nonlinear. "
                f"Received: --projection={self.projection}"
            )


@dataclasses.dataclass(frozen=True)
class Objective(Section):
    """What is minimised."""

    loss: str = setting("nt_xent", "Contrastive loss.", choices=LOSSES)
    similarity: str = setting("cosine", "Similarity of two projections.", choices=SIMILARITIES)
    temperature: float = setting(0.5, "Temperature tau, which similarities are divided by; not in the margin.", above=0)
    margin: float = setting(0.4, "Margin of margin_triplet and of --semi_hard, in units of similarity.", low=0)
    semi_hard: bool = setting(False, "Learn from semi-hard negatives only: farther than the positive, within --margin.")
    normalize: bool = setting(True, "Divide projections by their l2 norms first; --similarity=dot never does.")


@dataclasses.dataclass(frozen=True)
class Optimization(Section):
    """How it is minimised."""

    optimizer: str = setting("lars", "Optimizer.", choices=OPTIMIZERS)
    learning_rate: float = setting(1.0, "Base learning rate, before --lr_scaling.", above=0)
    lr_scaling: str = setting(
        "linear",
        "Rate = base x batch / 256 (linear), base x sqrt(batch) (sqrt) or base (none).",
        choices=("linear", "sqrt", "none"),
    )
    weight_decay: float = setting(1e-6, "Weight decay; biases and batch-norm parameters are exempt.", low=0)
    momentum: float = setting(0.9, "Momentum of lars and sgd.", low=0, high=0.9999)
    warmup_epochs: float = setting(10.0, "Epochs of linear warm-up; the rate decays by a cosine after them.", low=0)


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """How long, with which batch and precision."""

    batch_size: int = setting(1024, "Images a step over all devices (the global batch).", low=2)
    epochs: int = setting(1000, "Passes over the training images.", low=1)
    max_steps: int | None = setting(None, "Stop after this many steps, whatever --epochs says.", low=1)
    precision: str = setting(
        "float32",
        "Keras dtype policy of the networks.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    seed: int = setting(0, "Seed of initial weights, order of images and augmentation.", low=0, high=2**31 - 1)
    deterministic: bool = setting(False, "Use deterministic kernels only: the same command, the same numbers.")


@dataclasses.dataclass(frozen=True)
class Hardware(Section):
    """Where it runs. Never changes what is computed."""

    strategy: str = setting(
        "auto",
        "tf.distribute strategy; auto takes every GPU of this machine, or the CPU.",
        choices=STRATEGIES,
    )
    tpu: str = setting("local", "TPU to use with --strategy=tpu: local, a name, or grpc://host:port.")
    communication: str = setting(
        "auto",
        "How several workers exchange tensors: ring (gRPC), nccl (GPUs), or what TensorFlow finds best.",
        choices=("auto", "ring", "nccl"),
    )
    logical_cpus: int = setting(1, "Split the CPU into this many devices, to try --strategy=mirrored.", low=1, high=64)


@dataclasses.dataclass(frozen=True)
class Output(Section):
    """What a run leaves on disk."""

    run_dir: str | None = setting(None, "Folder of the run's files; runs/<date-time-name> when not given.")
    overwrite: bool = setting(False, "Delete what --run_dir holds and start again.")
    resume: bool = setting(False, "Continue the run in --run_dir from its newest checkpoint, if there is one.")
    checkpoint_epochs: int = setting(10, "Save a checkpoint every this many epochs, and at the end.", low=1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that defines a pretraining run."""

    data: Data = dataclasses.field(default_factory=Data)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    network: Network = dataclasses.field(default_factory=Network)
    objective: Objective = dataclasses.field(default_factory=Objective)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    training: Training = dataclasses.field(default_factory=Training)
    hardware: Hardware = dataclasses.field(default_factory=Hardware)
    output: Output = dataclasses.field(default_factory=Output)

    def __post_init__(self) -> None:
        """Raises ValueError for settings that exclude each other."""
        if self.data.dataset == "folder" and not self.data.data_dir:
            raise ValueError("--dataset=folder needs --data_dir, the folder with the images. Received: no --data_dir")
        if self.data.dataset == "folder" and not self.data.image_size:
            raise ValueError("--dataset=folder needs --image_size, e.g. 96. Received: no --image_size")
        if self.data.dataset == "patterns" and self.data.data_dir:
            raise ValueError(f"--dataset=patterns is generated and reads no --data_dir. Received: {self.data.data_dir}")
        if self.optimization.warmup_epochs > self.training.epochs:
            raise ValueError(
                f"--warmup_epochs must not exceed --epochs={self.training.epochs}. "
                f"Received: {self.optimization.warmup_epochs:g}"
            )
        if self.output.resume and not self.output.run_dir:
            raise ValueError("--resume needs --run_dir, the run to continue. Received: no --run_dir")
        if self.output.resume and self.output.overwrite:
            raise ValueError("--resume and --overwrite exclude each other. Received: both")

    @classmethod
    def sections(cls) -> dict[str, Any]:
        """The groups of settings by name: their dataclasses."""
        return {field.name: field.type for field in dataclasses.fields(cls)}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, one mapping a section."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, dict[str, Any]]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: on a section or setting that this version does not have.
        """
        sections = cls.sections()
        unknown = set(values) - set(sections)
        for name in set(values) & set(sections):
            unknown |= set(values[name]) - {field.name for field in dataclasses.fields(sections[name])}
        if unknown:
            raise ValueError(
                f"The configuration has settings that this version does not know. Received: {sorted(unknown)}"
            )
        return cls(**{name: sections[name](**settings) for name, settings in values.items()})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a `config.json`.

        Raises:
            ValueError: when the file is missing or is not one.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except (OSError, json.JSONDecodeError, TypeError, AttributeError) as error:
            raise ValueError(f"Expected the config.json of a run. Received: {path} ({error})") from error

    def replace(self, section: str, **changes: Any) -> Self:
        """A copy with some settings of one section changed."""
        return dataclasses.replace(self, **{section: dataclasses.replace(getattr(self, section), **changes)})


MODES = ("export", "knn", "linear")


@dataclasses.dataclass(frozen=True)
class Evaluation(Section):
    """How a pretrained encoder is judged."""

    run_dir: str | None = setting(None, "Folder of the run to judge.")
    mode: str = setting("linear", "Protocol: linear (logistic regression), knn, or export (SavedModel).", choices=MODES)
    dataset: str | None = setting(None, "Labelled data to judge on, when not that of the run.", choices=DATASETS)
    data_dir: str | None = setting(None, "Folder of that data, when not that of the run.")
    baselines: bool = setting(False, "Judge the encoder at random initialisation and raw pixels, too.")
    layer: int = setting(
        0, "What to judge or export: 0 for h, k for the k-th layer of the projection head, the last being z.", low=0
    )

    def __post_init__(self) -> None:
        """Raises ValueError for settings that are illegal or exclude each other."""
        super().__post_init__()
        if not self.run_dir:
            raise ValueError("--run_dir is needed, the folder of a pretraining run. Received: no --run_dir")
