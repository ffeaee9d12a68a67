"""Every check that can fire has its meaning, and none has one that cannot."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from nsa.report import verdict
from nsa.report.verdict.meanings import MEANINGS

PAGE = Path(__file__).parents[3] / "docs" / "verdicts.md"


def nodes() -> list[ast.AST]:
    """The syntax of verdict's modules but for the meanings."""
    paths = (path for path in Path(verdict.__path__[0]).glob("*.py") if path.stem != "meanings")
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def test_every_check_has_its_meaning() -> None:
    """The page explains each anomaly that it lists."""
    calls = (n for n in nodes() if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Check")
    names = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert len(names) > 25 and names <= set(MEANINGS)


def test_no_meaning_is_of_a_check_that_is_gone() -> None:
    """Each name is one that the modules of the verdict give; those of records are made of the record's status."""
    words = {node.value for node in nodes() if isinstance(node, ast.Constant)}
    assert {name.removeprefix("record_") for name in MEANINGS} <= words


def test_the_page_of_verdicts_has_every_check() -> None:
    """docs/verdicts.md has a row for each blocking check and a word for each warning, and no other."""
    _, _, text = PAGE.read_text().partition("## Automatic checks")
    text, _, _ = text.partition("### The launch rule")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    warnings = set(re.findall(r"`(\w+)`", text.partition("Warnings:")[2]))
    assert rows | warnings == set(MEANINGS) and not rows & warnings
