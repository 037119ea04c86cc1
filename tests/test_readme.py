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
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_every_flag_is_in_the_table():
    text = (ROOT / "README.md").read_text()
    names = {field.name for section in SECTIONS for field in dataclasses.fields(section)}
    shown = set(re.findall(r"`--(\w+)", text))
    assert names <= shown


def test_the_table_has_the_defaults_of_a_run():
    rows = (ROOT / "README.md").read_text().partition("| concern | flags |")[2].partition("\n| `evaluate.py`")[0]

    def text(value):
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return "" if value is None or isinstance(value, bool) else shown

    fields = [field for section in Config.sections().values() for field in dataclasses.fields(section)]
    assert dict(re.findall(r"`--(\w+)(?:=([^`]*))?`", rows)) == {field.name: text(field.default) for field in fields}


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_is_shown_exists(page):
    known = {field.name for section in SECTIONS for field in dataclasses.fields(section)}
    known |= {"mode", "run_dir", "flagfile", "preview", "input_report", "help", "verbosity"}
    command = r"^ *(?:python (?:train|evaluate)\.py|simclr-(?:train|evaluate))(?:.*\\\n)*.*$"
    commands = re.findall(command, page.read_text(), re.MULTILINE)
    assert commands or page != ROOT / "README.md"
    for command in commands:
        words = " ".join(line.split("#")[0] for line in command.split("\n"))
        assert set(re.findall(r"--(\w+)", words)) <= known, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if not link.startswith("http"):
            there = page.parent / link
            assert there.exists(), link
            assert not anchor or anchor in anchors(there if link else page), f"{link}#{anchor}"


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
