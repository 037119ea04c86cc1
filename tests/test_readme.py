"""The README is held to what the project is."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from simclr_tf.config import MODES, Config
from simclr_tf.config.pretraining import ENCODER_NAMES
from simclr_tf.studies import STUDIES

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = [*Config.sections().values(), *MODES.values()]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_every_flag_is_in_the_table():
    text = (ROOT / "README.md").read_text()
    names = {field.name for section in SECTIONS for field in dataclasses.fields(section)}
    shown = set(re.findall(r"`--(\w+)", text))
    assert names <= shown


def test_every_choice_is_in_the_table():
    rows = dict(
        re.findall(r"^\| `(?:--)?([\w-]+)(?:=recipe:)?` \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    choices = {
        name: rule.metadata["choices"]
        for section in Config.sections().values()
        for name, rule in section.__dataclass_fields__.items()
        if name in rows
    }
    assert len(choices) == 8
    choices |= {"encoder": ENCODER_NAMES, "simclr-study": STUDIES}
    choices |= {"flagfile": [path.stem for path in (ROOT / "flags" / "recipes").glob("*.cfg")]}
    for name, known in choices.items():
        shown = {
            word for word in re.findall(r"`([^`]+)`", rows[name]) if not word.startswith(("--", "module:", "train.py"))
        }
        assert shown == set(known), name


def test_every_flag_that_is_shown_exists():
    known = {field.name for section in SECTIONS for field in dataclasses.fields(section)} | {"mode", "run_dir"}
    commands = re.findall(
        r"^(?:python (?:train|evaluate)\.py|simclr-(?:train|evaluate)).*$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert commands
    for command in commands:
        flags = set(re.findall(r"--(\w+)", command.split("#")[0])) - {"flagfile", "preview", "input_report", "help"}
        assert flags <= known, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def requirements():
    """What is declared: requirements.txt, and the extras of pyproject.toml that `make` installs."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines += [line for name in ("export", "analysis", "dev") for line in extras[name]]
    return [line for line in lines if line and not line.startswith(("#", "simclr-tf"))]


@pytest.mark.parametrize("line", requirements())
def test_requirements_and_constraints_agree(line):
    from packaging.requirements import Requirement

    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    requirement = Requirement(line)
    assert pinned[requirement.name.lower()] in requirement.specifier


def test_every_dependency_has_its_reason():
    from packaging.requirements import Requirement

    rows = re.findall(r"^\| ([\w, -]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = {name.strip() for row in rows for name in row.split(",")}
    declared = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert {Requirement(line).name for line in declared} <= shown
