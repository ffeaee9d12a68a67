"""Every test says in its docstring what holds: "A cell of another dtype is invalid."."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OTHERWISE = ("Breaks if ", "Without it, ")  # what happens where it does not hold


def unlike(source: str) -> list[str]:
    """The tests in a source whose docstring is missing, does not say what holds, or is no sentence."""
    tests = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    said = {node.name: ast.get_docstring(node) or "" for node in tests if node.name.startswith("test_")}
    return [name for name, text in said.items() if not _says_what_holds(text)]


def _says_what_holds(text: str) -> bool:
    first = text.partition("\n")[0]
    return first.endswith(".") and not first.startswith(OTHERWISE)


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ('"""A cell of another dtype is invalid."""', []),
        ('"""A cell of another dtype is invalid.\n\n    Its facts are not read."""', []),
        ('"""Breaks if a cell of another dtype is taken."""', ["test_a_cell"]),
        ('"""Without it, a cell of another dtype is taken."""', ["test_a_cell"]),
        ('"""Cells"""', ["test_a_cell"]),
        ("assert True", ["test_a_cell"]),
    ],
)
def test_a_docstring_that_does_not_say_what_holds_is_found(docstring: str, found: list[str]) -> None:
    """A docstring that is missing, says what breaks instead, or is no sentence, is found with its test's name."""
    assert unlike(f"def test_a_cell():\n    {docstring}\n") == found


def test_every_test_says_what_holds() -> None:
    """Every test of the suite has a docstring that says what holds."""
    files = sorted(TESTS.rglob("*.py"))
    found = {str(path.relative_to(TESTS)): unlike(path.read_text()) for path in files}
    assert {path: tests for path, tests in found.items() if tests} == {}
