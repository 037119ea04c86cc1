"""The README's rules about imports: one direction, no circle, settings without TensorFlow, private modules in one place."""

import ast
from pathlib import Path

import pytest

from simclr_tf import evaluation

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "simclr_tf"


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Every name that a file imports, wherever in the file, as far as `import` statements tell."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: name the whole module, which the rules are about"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}
EVERYTHING = {name: imported(path) for name, path in MODULES.items()}
IMPORTS = {name: {other for other in found if other in MODULES} - {name} for name, found in EVERYTHING.items()}


def within(room, names=MODULES):
    """The modules of a room, given by its dotted name below simclr_tf; the package's own for ''."""
    full = f"simclr_tf.{room}" if room else "simclr_tf"
    return {name for name in names if name == full or name.startswith(f"{full}.")}


READERS = {f"simclr_tf.data.{reader}" for reader in ("cifar", "folder", "patterns", "records", "tensorflow_datasets")}
WINGS = ("augment", "networks", "objectives", "optimizers")
PROTOCOLS = {place.partition(":")[0].removeprefix("simclr_tf.") for place in evaluation.PROTOCOLS.values()}

# From a room, or a module, to what it must never import.
FORBIDDEN = [
    *[("data", wing) for wing in WINGS],
    *[(wing, "data") for wing in WINGS],
    *[(wing, other) for wing in WINGS for other in WINGS if wing != other],
    *[
        (wing, above)
        for wing in ("data", *WINGS)
        for above in ("training", "tasks", "evaluation", "protocols", "encoders", "inspect", "studies")
    ],
    *[
        ("training", above)
        for above in ("tasks", "evaluation", "protocols", "encoders", "inspect", "studies", *WINGS[:3])
    ],
    *[("training", f"data.{reader}") for reader in ("cifar", "folder", "patterns", "records", "tensorflow_datasets")],
    ("evaluation", "tasks"),
    ("evaluation", "protocols"),
    *[("inspect", above) for above in ("tasks", "evaluation", "protocols", "studies")],
    *[(below, "studies") for below in ("tasks", "evaluation", "protocols")],
    ("tasks", "protocols"),
    ("tasks", "evaluation"),
    *[(one, other) for one in sorted(PROTOCOLS) for other in sorted(PROTOCOLS) if one != other],
    ("studies", "training.engine"),
    ("studies", "tasks"),
    ("distribution", "training"),
    ("files", "training"),
    ("figures", "training"),
    *[("config", room) for room in ("data", *WINGS, "training", "tasks", "evaluation", "distribution", "files")],
]


@pytest.mark.parametrize(("room", "other"), FORBIDDEN)
def test_a_room_does_not_import_another(room, other):
    assert within(room), f"there is no {room}"
    assert {name: IMPORTS[name] & within(other) for name in within(room) if IMPORTS[name] & within(other)} == {}


def test_the_rooms_of_the_rules_exist():
    assert all(within(other) for _, other in FORBIDDEN) and set(MODULES) >= READERS


def test_no_tensorflow_at_import(run_python):
    """These are imported for their settings, checks and records, also where TensorFlow must not be."""
    modules = [*sorted(within("config")), "simclr_tf", "simclr_tf.evaluation.report", "simclr_tf.files",
               "simclr_tf.launch", "simclr_tf.places", "simclr_tf.preflight", "simclr_tf.training.checkpoints",
               "simclr_tf.training.metrics", "simclr_tf.training.run_folder", "simclr_tf.training.signals"]  # fmt: skip
    code = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if {"tensorflow", "keras"} & set(sys.modules):
        sys.exit(name)
"""
    result = run_python("-c", code, *modules)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", sorted(MODULES))
def test_command_lines_are_parsed_in_flags_only(module):
    assert not {"absl.flags", "argparse", "flags"} & EVERYTHING[module]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"simclr_tf._compat"}))
def test_private_modules_are_imported_in_one_place(module):
    private = {
        name for name in EVERYTHING[module] if name.startswith(("tensorflow.python", "keras.src", "keras_cv.src"))
    }
    assert private == set()


def test_no_circle():
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, " -> ".join([*open_, name])
        if name not in done:
            open_.append(name)
            for other in IMPORTS[name]:
                # A package's own __init__ imports its modules, which may name the package.
                if not name.startswith(f"{other}."):
                    visit(other)
            done.add(open_.pop())

    for name in MODULES:
        visit(name)
    assert done == set(MODULES)


def test_import_needs_nothing_that_takes_time(run_python):
    code = (
        "import sys, simclr_tf;"
        "assert simclr_tf.__version__ and not {'tensorflow', 'keras', 'numpy', 'scipy', 'PIL'} & set(sys.modules)"
    )
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


def test_public_names_are_there():
    import simclr_tf

    assert all(getattr(simclr_tf, name) is not None for name in simclr_tf.__all__)
    assert {"Config", "pretrain", "evaluate", "load_encoder", "SimCLR", "TwoViews", "Objective", "nt_xent", "LARS",
            "SyncBatchNormalization", "resnet", "__version__"} <= set(simclr_tf.__all__)  # fmt: skip
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(simclr_tf, "nonsense")  # noqa: B009
