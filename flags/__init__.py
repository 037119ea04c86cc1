"""The command line: absl flags made from the fields of `simclr_tf.config`, and nothing else.

Only this package and the two entry points know absl flags; the library takes dataclasses.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

from simclr_tf.config import Config, Evaluation, Section, field_type

FLAGS = flags.FLAGS

# What may differ between a run and its continuation: where it runs and how far, not what it computes.
RESUMABLE = ("hardware", "output")


def define(section: type[Section]) -> None:
    """Defines one flag for each field of `section`: same name, same default, its help and its choices."""
    for field in dataclasses.fields(section):
        kind, text = field_type(field), field.metadata["help"]
        if kind is bool:
            flags.DEFINE_bool(field.name, field.default, text)
        elif kind is int:
            flags.DEFINE_integer(field.name, field.default, text)
        elif kind is float:
            flags.DEFINE_float(field.name, field.default, text)
        elif field.metadata["choices"]:
            flags.DEFINE_enum(field.name, field.default, list(field.metadata["choices"]), text)
        else:
            flags.DEFINE_string(field.name, field.default, text)


def _values(section: type[Section]) -> dict[str, Any]:
    return {field.name: FLAGS[field.name].value for field in dataclasses.fields(section)}


def define_pretraining() -> None:
    """Defines every flag of `train.py`."""
    for field in dataclasses.fields(Config):
        define(field.type)


def config_from_flags() -> Config:
    """The `Config` that the flags spell; with --resume, that of the run, which the flags must not contradict.

    Raises:
        ValueError: on illegal settings, or on a flag that would change a run half-way.
    """
    config = Config(**{field.name: field.type(**_values(field.type)) for field in dataclasses.fields(Config)})
    saved_path = Path(config.output.run_dir or "") / "config.json"
    if not (config.output.resume and saved_path.exists()):
        return config
    saved = Config.load(saved_path)
    for field in dataclasses.fields(Config):
        if field.name in RESUMABLE:
            continue
        for name, value in dataclasses.asdict(getattr(saved, field.name)).items():
            if FLAGS[name].present and FLAGS[name].value != value:
                raise ValueError(
                    f"--resume continues a run with --{name}={value}, which must stay as it was; leave the flag out "
                    f"or start another run. Received: --{name}={FLAGS[name].value}"
                )
    return dataclasses.replace(saved, **{name: getattr(config, name) for name in RESUMABLE})


def evaluation_from_flags() -> Evaluation:
    """The `Evaluation` that the flags spell.

    Raises:
        ValueError: on illegal settings.
    """
    return Evaluation(**_values(Evaluation))


def as_flagfile(config: Config) -> str:
    """The flags that spell `config`, one a line, without those that say where this run writes."""
    lines = []
    for field in dataclasses.fields(Config):
        if field.name == "output":
            continue
        for name, value in dataclasses.asdict(getattr(config, field.name)).items():
            if value is not None:
                lines.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def run(main: Callable[[], None]) -> None:
    """Parses the command line and calls `main`; what a user can mend ends in one line and exit code 1."""
    # --help lists the key flags of the module that runs; ours are defined here.
    flags.adopt_module_key_flags(sys.modules[__name__], FLAGS)
    app.run(functools.partial(_guarded, main), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return FLAGS(argv)
    except (flags.Error, OSError) as error:
        _fail(error)


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        _fail(f"Expected flags only, like --name=value. Received: {' '.join(argv[1:])}")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs what it saves and where
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        if FLAGS.verbosity > 0:
            raise
        _fail(f"{error} (--verbosity=1 shows where)")
    except KeyboardInterrupt:
        _fail("interrupted")


def _fail(message: object) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(1)
