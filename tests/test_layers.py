"""The directions of imports, as pyproject.toml states them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed")

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
