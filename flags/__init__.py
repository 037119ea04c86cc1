"""The command lines: absl flags made from the fields of `simclr_tf.config`, and one call into the library for each command.

Only this package knows absl flags; the library takes dataclasses. In a checkout it is `flags`, beside the entry points;
an installed copy has it as `simclr_tf.flags`, so that no module called `flags` is left in site-packages.
"""

import contextlib
import dataclasses
import itertools
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging

from simclr_tf.config import PLACES_OF_DATA, Config, Section, as_word, field_type, is_place
from simclr_tf.config.base import expanded
from simclr_tf.training.signals import Interrupted

FLAGS = flags.FLAGS
DIVERGED = 3  # exit code
RECIPES = Path(__file__).with_name("recipes")
KERAS_WOULD_LIKE = {"matplotlib", "pandas", "sklearn"}

Group = Mapping[str, dataclasses.Field]
DEFINERS: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string,
}  # fmt: skip


class _NumberOrNone(flags.IntegerParser):
    """A whole number; an empty value takes away that of a flagfile."""

    def parse(self, argument):
        return None if argument == "" else super().parse(argument)


words: list[str] = []  # those of the command line that are no flags


def fields(*sections: type[Section]) -> Group:
    """The fields of some sections by name."""
    return {field.name: field for section in sections for field in dataclasses.fields(section)}


def pretraining_groups() -> dict[str, Group]:
    """The flags of a pretraining run, by section."""
    return {name: fields(section) for name, section in Config.sections().items()}


def define(group: Group, values: flags.FlagValues = FLAGS) -> None:
    """Defines one flag for each field: same name, same default, its help and its choices."""
    for name, field in group.items():
        default: Any = field.default
        text, choices = as_flags(field.metadata["help"]), field.metadata["choices"]
        if choices and not any(":" in choice for choice in choices):
            flags.DEFINE_enum(name, default, choices, text, flag_values=values)
        elif field_type(field) is int and default is None:
            flags.DEFINE(_NumberOrNone(), name, default, text, values, flags.ArgumentSerializer())
        else:
            DEFINERS[field_type(field)](name, default, text, flag_values=values)


def given(group: Iterable[str], values: flags.FlagValues = FLAGS) -> dict[str, Any]:
    """The flags of a group that the command line or a flagfile sets, and their values."""
    return {name: values[name].value for name in group if values[name].present}


def config_from_flags(values: flags.FlagValues = FLAGS) -> Config:
    """The `Config` that the flags spell.

    With `--resume`, it is that of the run, which the flags must not contradict: only where it runs, reads and writes
    may change, which is printed, and what is not given stays as it was. `--max_steps` is how far to go this time.

    Raises:
        ValueError: On illegal settings, or on a flag that would change a run half-way.
    """
    known = fields(*Config.sections().values())
    changed = given(known, values)
    saved_path = Path(os.path.expanduser(changed.get("run_dir") or "")) / "config.json"
    if not (changed.get("resume") and changed.get("run_dir") and saved_path.exists()):
        return Config.of(**changed)
    saved = Config.load(saved_path)
    if changed.get("precision") == "auto":  # it was decided when the run began
        del changed["precision"]
    for name, value in changed.items():
        # As a section keeps it, which makes the folders of data absolute.
        of_data = name in PLACES_OF_DATA
        value = saved.replace("data", **{name: value}).value(name) if of_data else expanded(value, known[name])
        if not is_place(name) and name != "max_steps" and value != saved.value(name):
            raise ValueError(
                f"`resume` continues a run with `{name}={saved.value(name)}`, which must stay as it was; leave the flag "
                f"out or start another run. Received: `{name}={value}`"
            )
        if is_place(name) and name not in ("resume", "run_dir") and value != saved.value(name):
            print(f"note     from now on {as_word(name, value)}, which was {saved.value(name)}", flush=True)
    kept = {name: value for section in saved.to_dict().values() for name, value in section.items()}
    return Config.of(**kept | {"overwrite": False, "max_steps": None} | changed)


def as_flags(message: str) -> str:
    """A message of the library, its names of settings in backticks, with flags in their place."""
    return re.sub(r"`(\w+)((?:=[^`]*)?)`", r"--\1\2", message)


def run(main: Callable[[], None], doc: str, groups: Mapping[str, Group], positional: int = 0) -> NoReturn:
    """Parses the command line, calls `main` and exits; whatever a user can fix ends in one line.

    Exit codes: 0; 1 for usage, data and everything else that a user can fix; 3 for a run that diverged or collapsed;
    128 + the signal that ended it.

    Args:
        main: Command; finds its flags in `FLAGS`.
        doc: First part of `--help`.
        groups: Defined flags by subject, for `--help`.
        positional: Number of words other than flags that there may be; -1 for any. They are in `words`.
    """
    own = itertools.takewhile(lambda word: word != "--", sys.argv)
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(own):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends quietly
        print(_help(doc, groups))
        sys.exit(0)
    try:
        # The words after a launcher's own are another command's.
        words[:] = FLAGS(flagfiles_first(sys.argv) if positional >= 0 else [*map(_with_recipe, sys.argv)])[1:]
    except (flags.Error, OSError, ValueError, TypeError) as error:
        _fail(error)
    if len(words) > positional >= 0:
        _fail(f"Expected flags only, like --name=value. Received: {' '.join(words[positional:])}")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs what it saves and where
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.verbosity > 0:
            raise
        code = DIVERGED if isinstance(error, FloatingPointError) else 1
        _fail(f"{as_flags(str(error))} (--verbosity=1 shows where)", code)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        _fail(": ".join(["interrupted", *filter(None, [as_flags(str(error))])]), 128 + number)
    sys.exit(0)


def import_tensorflow() -> None:
    """Imports TensorFlow, Keras and Keras-CV, in three quarters of the usual time.

    Keras and Keras-CV import `KERAS_WOULD_LIKE`, where installed, for functions that no command calls. Here they do not
    find these packages; a command that needs one imports it afterwards.
    """
    hidden = KERAS_WOULD_LIKE - sys.modules.keys()
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # which Python takes for a module that is not installed
    try:
        import simclr_tf.quiet  # noqa: F401, I001
        import keras_cv  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


def flagfiles_first(argv: Sequence[str]) -> list[str]:
    """The words, flagfiles first: of two values the last one counts, which should be the one that is typed."""
    own = list(itertools.takewhile(lambda word: word != "--", argv))
    files: list[str] = []
    others: list[str] = []
    rest = iter(own[1:])
    for word in rest:
        if word in ("--flagfile", "-flagfile") and (path := next(rest, None)) is not None:
            word = f"--flagfile={path}"
        (files if re.match("--?flagfile=", word) else others).append(word)
    return [*own[:1], *map(_with_recipe, files), *others, *argv[len(own) :]]


def _with_recipe(word: str) -> str:
    """`--flagfile=recipe:NAME` with the path of the recipe; any other word as it is."""
    match = re.fullmatch(r"--?flagfile=recipe:(.*)", word)
    if not match:
        return word
    known = {path.stem: path for path in sorted(RECIPES.glob("*.cfg"))}
    if match[1] not in known:
        raise ValueError(f"--flagfile=recipe:NAME takes one of {', '.join(known)}. Received: {match[1]}")
    return f"--flagfile={known[match[1]]}"


def _help(doc: str, groups: Mapping[str, Group]) -> str:
    parts = [doc.strip()]
    for title, group in groups.items():
        parts.append(f"{title}:")
        for name, field in group.items():
            default = "" if field.default is None or field.default is False else f" Default: {field.default}."
            values = f"One of {', '.join(field.metadata['choices'])}. " if field.metadata["choices"] else ""
            shown = f"--[no]{name}" if field_type(field) is bool else f"--{name}"
            text = as_flags(f"{values}{field.metadata['help']}{default}")
            parts.append(f"  {shown}\n{textwrap.indent(textwrap.fill(text, 100), '      ')}")
    recipe = ", --flagfile=recipe:NAME" if "training" in groups else ""
    parts.append(f"This command also takes --flagfile=PATH{recipe}, and --verbosity=1 for tracebacks.")
    return "\n\n".join(parts)


def _fail(message: object, code: int = 1) -> NoReturn:
    name = Path(sys.argv[0]).name
    line = " ".join(str(message).split()).encode(errors="backslashreplace").decode()
    with contextlib.suppress(OSError):
        sys.stdout.flush()  # in a file with both, the error comes last
    with contextlib.suppress(OSError):  # whose terminal may be gone
        print(f"{name}: error: {line}", file=sys.stderr)
    sys.exit(code)
