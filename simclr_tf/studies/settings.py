"""The flags of `train.py` as plain values: read from words, checked by the `Config`, spelt as words again.

A study starts `train.py` for every cell; a flag that it would refuse is refused here, before the first of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_tf.config import Config, field_type

FIELDS: dict[str, tuple[str, dataclasses.Field]] = {
    field.name: (section, field) for section, kind in Config.sections().items() for field in dataclasses.fields(kind)
}
DECIDED = ("overwrite", "resume", "run_dir")  # by the study
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Values by flag's name.

    Args:
        words: as on the command line of `train.py`: `--name=value`, `--name value`, `--name` and `--noname` of a
            switch, `--flagfile=path`; the last of a name counts.

    Raises:
        ValueError: on what is no flag, a value of another type, or a flag that a study decides.
    """
    rest, found = list(words), {}
    while rest:
        word = rest.pop(0)
        name, equals, text = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            raise ValueError(f"Expected flags only, like --name=value. Received: {word}")
        if name not in FIELDS and name.startswith("no") and _is_switch(name[2:]) and not equals:
            found[name[2:]] = False
        elif _is_switch(name) and not equals:
            found[name] = True
        elif name == "flagfile" or name in FIELDS:
            if not equals and not rest:
                raise ValueError(f"The flag needs a value. Received: {word}")
            text = text if equals else rest.pop(0)
            if name == "flagfile":
                rest[:0] = _flagfile(text)
            else:
                found[name] = _value(name, text)
        else:
            raise ValueError(f"There is no such flag. Received: {word}")
    decided = sorted(set(found) & set(DECIDED))
    if decided:
        raise ValueError(f"The study decides where its runs go (--runs_dir). Received: --{decided[0]}")
    return found


def _is_switch(name: str) -> bool:
    return name in FIELDS and field_type(FIELDS[name][1]) is bool


def _flagfile(path: str) -> list[str]:
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    return [line for line in lines if line.startswith("-")]


def _value(name: str, text: str) -> Any:
    kind: Any = field_type(FIELDS[name][1])
    try:
        return _WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise ValueError(f"--{name} must be a {kind.__name__}. Received: {text}") from error


def config_of(flags: Mapping[str, Any]) -> Config:
    """The `Config` of these flags, everything else at its default.

    Raises:
        ValueError: on illegal values, or values that exclude each other.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in Config.sections()}
    for name, value in flags.items():
        sections[FIELDS[name][0]][name] = value
    return Config.from_dict(sections)


def value(config: Config, flag: str) -> Any:
    """What `config` says of a flag."""
    return getattr(getattr(config, FIELDS[flag][0]), flag)


def words(flags: Mapping[str, Any]) -> list[str]:
    """`--name=value` of each."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()]
