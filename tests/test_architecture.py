"""The README's rule about imports: one direction, no circle, and settings without TensorFlow."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "simclr_tf"
WINGS = ("data", "augment", "networks", "objectives", "optimizers", "runs")


def imports_of(path):
    """The modules of this package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "simclr_tf":
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "simclr_tf"}
    return {name for name in found if name in MODULES}


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}
IMPORTS = {name: imports_of(path) - {name} for name, path in MODULES.items()}


@pytest.mark.parametrize("wing", WINGS)
def test_wings_import_only_config_and_distribution(wing):
    room = f"simclr_tf.{wing}"
    inside = {name for name in MODULES if name == room or name.startswith(f"{room}.")}
    outside = set().union(*(IMPORTS[name] for name in inside)) - inside - {"simclr_tf"}
    assert inside and outside <= {"simclr_tf.config", "simclr_tf.distribution"}


def test_nothing_imports_what_stands_above_it():
    above = {"simclr_tf.tasks.pretrain", "simclr_tf.inspect.preview", "simclr_tf.launch"}
    above |= {name for name in MODULES if name.startswith(("simclr_tf.evaluation", "simclr_tf.studies"))}
    below = set(MODULES) - above
    assert {name: IMPORTS[name] & above for name in below if IMPORTS[name] & above} == {}


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


def test_settings_do_not_import_tensorflow(run_python):
    code = "import sys, flags, simclr_tf.config, simclr_tf.data; sys.exit('tensorflow' in sys.modules)"
    assert run_python("-c", code).returncode == 0
