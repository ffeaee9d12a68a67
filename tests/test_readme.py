"""README.md, CHANGELOG.md and docs/: every path, function, name, command and link that they show exists."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pages import PAGES, ROOT, commands, headings, spans, text
from typer.core import TyperGroup

from nsa import backends
from nsa.cli import app, guide
from nsa.config import Config
from nsa.layout import Layout

INDEX = text(Path("docs/method.md"))
METHOD = ("method", *re.findall(r"^\| \[(\w+)\.md\]", INDEX, re.MULTILINE))  # a page for each idea
OF_TODAY = [
    page for page in PAGES if page.stem in ("README", "backend", "runbooks", "tour", *METHOD)
]  # no history in them
FOLDERS = ("nsa/", "tests/", "docs/", "workflow/", "profiles/", ".github/", ".ci/")
PLACED = re.compile(r"`([A-Za-z_][\w.]*)`\s+\(`(nsa/[\w/]+\.py)`\)")  # `CudaTimer.time` (`nsa/bench/method/timing.py`)
WORD = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
# a program, a word of Snakemake's, the name of the page's own backend, and two that are made of a text and a status
ELSEWHERE = {"python3", "params", "example", "record_invalid", "record_stale"}
SWITCHES = ("-n", "--unlock", "--touch", "--verbose")
WITH_A_VALUE = ("--report", "--cores", "--resources", "--workflow-profile", "--configfile")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_path_exists(page: Path) -> None:
    """What is named as a file or a folder of the repository is there; `nsa/a.py b.py` names two of one folder."""
    missing = []
    for span in spans(page):
        first, *others = span.partition("::")[0].split()
        if first.startswith(FOLDERS):
            beside = [str(Path(first).parent / other) for other in others if other.endswith(".py")]
            missing += [path for path in (first, *beside) if not list(ROOT.glob(path))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_resolves(page: Path) -> None:
    """A link leads to a file of the repository, and to a heading that it has."""
    broken = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text(page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists() or (anchor and anchor not in headings(path)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    """docs/index.md leads to each page of docs/, those of the method through docs/method.md."""
    index = re.findall(r"\]\((\w+)\.md", text(Path("docs/index.md")))
    assert len(METHOD) > 10
    assert {page.stem for page in PAGES if page.parent.name == "docs"} == {"index", *METHOD, *index}


@pytest.mark.parametrize("page", OF_TODAY, ids=str)
def test_every_function_is_where_the_page_says(page: Path) -> None:
    """A name before a path in parentheses is defined in that module, a method in its class."""
    assert [(name, path) for name, path in PLACED.findall(text(page)) if not defines(path, name)] == []


def defines(path: str, name: str) -> bool:
    """Whether a module defines a name at its top, or `Class.method`."""
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("page", OF_TODAY, ids=str)
def test_every_name_is_known_to_the_code(page: Path) -> None:
    """A word set as code is a name, a text or a module of today's code, a key of config.yaml, or a file."""
    words = [span.removesuffix("()") for span in spans(page)]
    named = [word for word in words if WORD.fullmatch(word) and not (ROOT / word).exists()]
    assert [word for word in named if not set(word.split(".")) <= known() | ELSEWHERE] == []


@functools.cache
def known() -> set[str]:
    """Every name that the code uses, every word of its texts but docstrings, and every key of config.yaml."""
    found = {"nsa"}
    for path in (ROOT / "nsa").rglob("*.py"):
        found |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(name=name):
                    found.add(name)
                case ast.Constant(value=str(words)) if "\n" not in words:
                    found |= set(re.findall(r"\w+", words))
    return found | set(re.findall(r"\w+", (ROOT / "config.yaml").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_exists(page: Path) -> None:
    """What a reader is told to type is a target of make, an output of a rule, a command with its options, or a test."""
    faults = [line for line in commands(page) if not exists(shlex.split(re.sub(r"\[(--\w+)\]", r"\1", line)))]
    assert faults == []


def exists(words: list[str]) -> bool:
    """Whether a command is one."""
    match words:
        case ["make", *arguments]:
            targets = re.findall(r"^([\w$()]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return all("=" in word or word in targets for word in arguments)
        case ["snakemake", *arguments]:
            return snakemake(arguments)
        case ["python", "-m", "pytest", *arguments]:
            return all((ROOT / word.partition("::")[0]).exists() for word in arguments)
        case ["python", "-m", "pip", "install", *packages]:
            return all(package in (ROOT / ".github" / "workflows" / "ci.yml").read_text() for package in packages)
        case ["python", "-m", "nsa", *arguments] | ["nsa", *arguments]:
            return ours(arguments)
        case ["python", "-m", module]:
            return importlib.util.find_spec(module) is not None
    return words == ["python"]


def ours(arguments: list[str]) -> bool:
    """Whether the command line has a command, with these options."""
    assert guide  # its commands are there once it is imported
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    if not arguments or arguments[0] in ("-h", "--version"):
        return len(arguments) < 2
    command = group.commands.get(arguments[0])
    if command is None:
        return False
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return all(word.partition("=")[0] in options for word in arguments[1:] if word.startswith("-"))


def snakemake(arguments: list[str]) -> bool:
    """Whether rules make these targets, and the files and keys of the options are there."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            return all(setting.partition("=")[0] in Config.model_fields for setting in words)
        if word in WITH_A_VALUE:
            value = next(words)
            if word in ("--workflow-profile", "--configfile") and not (ROOT / value).exists() and value != "run.yaml":
                return False
        elif not (word in SWITCHES or any(made.fullmatch(word) for made in outputs())):
            return False
    return True


@functools.cache
def outputs() -> list[re.Pattern[str]]:
    """What the rules make: they ask the layout for it."""
    layout, own = Layout(), [backends.spec(name).stage for name in backends.BUILT_IN]
    found = [layout.artifact(stage.artifact) for stage in own if stage is not None]
    for rules in (ROOT / "workflow" / "rules").glob("*.smk"):
        blocks = re.findall(r"^ *output:\n(.*?)^ *log:\n", rules.read_text(), re.MULTILINE | re.DOTALL)
        for name in re.findall(r"layout\.(\w+)", "".join(blocks)):
            if name != "artifact":
                place = getattr(layout, name)
                found.append(place() if callable(place) else place)
    wildcards = {r"\{backend\}": "|".join(backends.BUILT_IN), r"\{S\}": r"[1-9]\d*"}
    patterns = [re.escape(str(path)) for path in found]
    for wildcard, values in wildcards.items():
        patterns = [pattern.replace(wildcard, f"(?:{values})") for pattern in patterns]
    return [re.compile(pattern) for pattern in patterns]


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page.stem in ("README", "ci", "faults", "kernels", "kernels_log", "step_log", "tour", *METHOD)
    ],
)
def test_every_result_is_one_that_a_rule_makes(page: Path) -> None:
    """A path in results/ is an output of a rule, or a stamp."""
    named = [span for span in spans(page) if re.fullmatch(r"results/[\w./]+\.\w+", span)]
    assert [path for path in named if not any(made.fullmatch(path) for made in outputs())] == []


def test_what_moved_is_where_the_changelog_says() -> None:
    """Every module that the CHANGELOG says is there now is there: a short name lies beside the full one before it."""
    _, _, moved = text(Path("CHANGELOG.md")).partition("### Modules that moved")
    missing = []
    for cell in re.findall(r"^\| (`nsa.*) \|$", moved, re.MULTILINE):
        package = "nsa"
        for name in re.findall(r"`([a-z_0-9.]+)`", cell):
            full = name if name.startswith("nsa.") else f"{package}.{name}"
            package = full.rpartition(".")[0]
            if importlib.util.find_spec(full) is None:
                missing.append(full)
    assert missing == []


@pytest.mark.parametrize("page", OF_TODAY, ids=str)
def test_every_key_is_one_of_config_yaml(page: Path) -> None:
    """What is named as `section.key` of config.yaml is there."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    sections = "|".join(key for key, value in config.items() if isinstance(value, dict))
    dotted = [span.partition(":")[0] for span in spans(page) if re.match(rf"(?:{sections})\.\w", span)]
    assert [name for name in dotted if value_of(name, config) is None] == []


def value_of(name: str, config: Any) -> object:
    """The value of a dotted key; None where there is none."""
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
