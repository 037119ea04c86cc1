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

from simclr_tf.config import PLACES, Config, Evaluation, Section, field_type

FLAGS = flags.FLAGS


def define(section: type[Section], values: flags.FlagValues = FLAGS) -> None:
    """Defines one flag for each field of `section`: same name, same default, its help and its choices."""
    for field in dataclasses.fields(section):
        kind, text = field_type(field), field.metadata["help"]
        default: Any = field.default
        if kind is bool:
            flags.DEFINE_bool(field.name, default, text, flag_values=values)
        elif kind is int:
            flags.DEFINE_integer(field.name, default, text, flag_values=values)
        elif kind is float:
            flags.DEFINE_float(field.name, default, text, flag_values=values)
        elif field.metadata["choices"]:
            flags.DEFINE_enum(field.name, default, list(field.metadata["choices"]), text, flag_values=values)
        else:
            flags.DEFINE_string(field.name, default, text, flag_values=values)


def _read(section: type[Section], values: flags.FlagValues) -> Any:
    return section(**{field.name: values[field.name].value for field in dataclasses.fields(section)})


def define_pretraining(values: flags.FlagValues = FLAGS) -> None:
    """Defines every flag of `train.py`."""
    for section in Config.sections().values():
        define(section, values)
    flags.DEFINE_bool(
        "preview",
        False,
        "Write pictures of the augmentations into --run_dir or preview/ and train nothing.",
        flag_values=values,
    )


def config_from_flags(values: flags.FlagValues = FLAGS) -> Config:
    """The `Config` that the flags spell; with --resume, that of the run, which the flags must not contradict.

    Raises:
        ValueError: on illegal settings, or on a flag that would change a run half-way.
    """
    config = Config(**{name: _read(section, values) for name, section in Config.sections().items()})
    saved_path = Path(config.output.run_dir or "") / "config.json"
    if not (config.output.resume and saved_path.exists()):
        return config
    saved = Config.load(saved_path)
    for section, settings in saved.to_dict().items():
        if section in PLACES:
            continue
        for name, value in settings.items():
            if name != "max_steps" and values[name].present and values[name].value != value:
                raise ValueError(
                    f"--resume continues a run with --{name}={value}, which must stay as it was; leave the flag out "
                    f"or start another run. Received: --{name}={values[name].value}"
                )
    saved = saved.replace("training", max_steps=config.training.max_steps)  # how far, this time
    return dataclasses.replace(saved, **{name: getattr(config, name) for name in PLACES})


def evaluation_from_flags() -> Evaluation:
    """The `Evaluation` that the flags spell.

    Raises:
        ValueError: on illegal settings.
    """
    return _read(Evaluation, FLAGS)


def as_flagfile(config: Config) -> str:
    """The flags that spell `config`, one a line, without those that say where this run writes."""
    lines = []
    for section, settings in config.to_dict().items():
        if section == "output":
            continue
        for name, value in settings.items():
            if value is not None:
                lines.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def run(main: Callable[[], None]) -> None:
    """Parses the command line and calls `main`; what a user can mend ends in one line and exit code 1."""
    # --help lists the key flags of the module that runs; ours are defined here.
    for flag in FLAGS.get_key_flags_for_module(__name__):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
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
