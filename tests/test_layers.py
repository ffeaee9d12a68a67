"""The directions of imports, as pyproject.toml states them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed")

import grimp
from importlinter.api import read_configuration
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_imports_point_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    """Imports point one way, as pyproject.toml states."""
    status = lint_imports(config_filename=str(PYPROJECT), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_rule_has_its_contract() -> None:
    """Every rule of imports has its contract in pyproject.toml."""
    contracts = read_configuration(str(PYPROJECT))["contracts_options"]
    assert {contract["name"] for contract in contracts} == {
        "imports point one way",
        "backends do not import each other",
        "the reference imports nothing of ours",
        "the report knows records, never torch",
        "the report: figures, then verdicts, then accepted runs, then the history, then pages",
        "the Snakefile imports nothing heavy",
    }


def test_no_module_needs_itself() -> None:
    """No chain of imports leads back to where it starts, those in functions and for types alone included."""
    graph = grimp.build_graph("nsa", exclude_type_checking_imports=False, cache_dir=None)
    imports = [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]
    circles = [chain for module, other in imports if (chain := graph.find_shortest_chain(other, module))]
    assert circles == []
