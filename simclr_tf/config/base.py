"""What a section of settings is: a frozen dataclass whose fields carry their help text and their legal values.

Nothing in this package imports TensorFlow, so a misspelled value is refused before a slow import. Messages put the name
of a setting in backticks; the command line shows it as a flag (`flags.as_flags`).
"""

import dataclasses
import os
import sys
import types
import typing
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with its help text and its legal values.

    Args:
        default: Default value.
        help: One sentence for `--help` and the README.
        choices: Legal names, empty for any; one like "records:GLOB" is followed by any words after its colon.
        low: Smallest legal value.
        high: Largest legal value.
        above: Exclusive lower bound.
        path: Whether it is a path, whose `~` stands for the home folder.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "choices": choices, "low": low, "high": high, "above": above, "path": path},
    )


def as_word(name: str, value: Any) -> str:
    """A setting as it is given on the command line, `--name=value`."""
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


def field_type(field: dataclasses.Field) -> type:
    """The plain type of a field: `int` for both `int` and `int | None`."""
    kind: Any = field.type
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind


def expanded(value: Any, field: dataclasses.Field) -> Any:
    """The value as a section keeps it: a path begins with the home folder instead of ~."""
    return os.path.expanduser(value) if value and field.metadata["path"] else value


@dataclasses.dataclass(frozen=True)
class Section:
    """A group of settings about one concern; checks each against its field's type and rule."""

    def __post_init__(self) -> None:
        """Raises ValueError for the first setting outside its legal values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            fault = _fault(value, field)
            if fault:
                raise ValueError(f"`{field.name}` must {fault}. Received: {value}")
            if isinstance(value, int) and field_type(field) is float:
                object.__setattr__(self, field.name, float(value))
            if (home := expanded(value, field)) != value:
                object.__setattr__(self, field.name, home)


def is_choice(value: str, choices: tuple[str, ...]) -> bool:
    """Whether a value is one of the choices of a setting."""
    name, colon, rest = value.partition(":")
    return value in choices and not colon or bool(rest) and any(each.startswith(f"{name}:") for each in choices)


def _fault(value: Any, field: dataclasses.Field) -> str | None:
    """What is wrong with `value`, as the end of a sentence, or None."""
    rule, kind = field.metadata, field_type(field)
    if value is None and field.default is None:
        return None
    # A bool is an int in Python, and an int serves as a float; JSON and callers may have it either way.
    legal = (int, float) if kind is float else kind
    if not isinstance(value, legal) or (isinstance(value, bool) and kind is not bool):
        return f"be {'an' if kind is int else 'a'} {kind.__name__}"
    if rule["path"] and not value:
        return "name a file or folder, or be left out"  # as of a variable of the shell that is not set
    if rule["choices"]:
        return None if is_choice(str(value), rule["choices"]) else f"be one of {', '.join(rule['choices'])}"
    if kind is float and isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        return "be a finite number"  # which an int that is too large for a float does not become
    if rule["low"] is not None and value < rule["low"]:
        return f"be at least {rule['low']}"
    if rule["above"] is not None and value <= rule["above"]:
        return f"be greater than {rule['above']}"
    if rule["high"] is not None and value > rule["high"]:
        return f"be at most {rule['high']}"
    return None
