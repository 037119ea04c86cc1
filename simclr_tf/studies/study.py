"""What a study is: cells that differ in a few flags, and what is compared among them. Plain data; no TensorFlow."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from simclr_tf.config import Config
from simclr_tf.studies import settings

# Measures of a run, and how a table writes them.
MEASURES = {
    "top1": ("top-1 %", "{:.1f}"),
    "contrastive_accuracy": ("contrastive accuracy %", "{:.1f}"),
    "contrastive_entropy": ("entropy (nats)", "{:.2f}"),
}


class Times(NamedTuple):
    """So many times what the command line, or the default, says of a flag.

    Attributes:
        flag: its name.
        factor: what to multiply its value by.
    """

    flag: str
    factor: float

    def of(self, base: Config) -> int | float:
        """The value; a whole number of one or more where the flag's is whole."""
        value = settings.value(base, self.flag)
        return max(1, round(value * self.factor)) if isinstance(value, int) else value * self.factor


@dataclasses.dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        labels: its place on each axis.
        flags: by name, what is different here.
    """

    labels: tuple[Any, ...]
    flags: Mapping[str, Any]

    def of(self, base: Config) -> "Cell":
        """The cell with `Times` worked out."""
        labels = tuple(f"{x.of(base):g}" if isinstance(x, Times) else str(x) for x in self.labels)
        return Cell(labels, {k: v.of(base) if isinstance(v, Times) else v for k, v in self.flags.items()})


Axis = Mapping[Any, Mapping[str, Any]]


def values(flag: str, *choices: Any) -> Axis:
    """An axis of values of one flag, which are their own labels."""
    return {choice if isinstance(choice, (str, Times)) else f"{choice:g}": {flag: choice} for choice in choices}


def multiples(flag: str, *factors: float) -> Axis:
    """An axis of multiples of what the command line says."""
    return values(flag, *(Times(flag, factor) for factor in factors))


def grid(*axes: Axis) -> tuple[Cell, ...]:
    """All combinations."""
    points = itertools.product(*(axis.items() for axis in axes))
    return tuple(
        Cell(tuple(label for label, _ in point), {k: v for _, flags in point for k, v in flags.items()})
        for point in points
    )


@dataclasses.dataclass(frozen=True)
class Study:
    """A comparison of the paper's.

    Attributes:
        title: of the report.
        question: what is compared, and what is different from the paper.
        axes: names of the labels.
        cells: the grid.
        measures: keys of `MEASURES`, the last of which is drawn.
        paper: labels, and the paper's values of the measures.
        source: where in the paper these are, and of which setting.
        figure: "bars"; "heatmap", rows being the first axis; "parameters", over the encoder's size.
    """

    title: str
    question: str
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    measures: tuple[str, ...] = ("top1",)
    paper: Mapping[tuple[str, ...], tuple[float, ...]] = dataclasses.field(default_factory=dict)
    source: str = ""
    figure: str = "bars"

    def beside(self, cells: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[float, ...]]:
        """The paper's values of those of the cells, given by their labels, that it has, too."""
        return {labels: self.paper[labels] for labels in cells if labels in self.paper}
