"""The rules as they are written."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from project import Project

ROOT = Path(__file__).parents[2]


def test_snakemake_finds_nothing_to_improve(finished: Project) -> None:
    """The rules follow Snakemake's own good practice."""
    result = finished.run("--lint")
    assert result.returncode == 0, result.stderr


def test_a_rule_is_replaced_by_its_command(finished: Project) -> None:
    """No shell stands between Snakemake and a command: killing the one kills the other."""
    for rules in (finished.root / "workflow" / "rules").glob("*.smk"):
        for command in re.findall(r"shell:\n\s+\"(.+?) ", rules.read_text()):
            assert command == "exec", rules.name


@pytest.mark.parametrize("rule", ["artifact", "decode", "check", "core", "core_curve", "dram", "roofline"])
def test_a_timed_job_runs_alone(rule: str, finished: Project) -> None:
    """`--cores 4` times no four cells against each other, and builds nothing beside them."""
    assert re.search(r"resources:\n +gpu=1,\n", (finished.root / "workflow" / "rules" / f"{rule}.smk").read_text())
    profile = yaml.safe_load((finished.root / "profiles" / "default" / "profile.yaml").read_text())
    assert profile["resources"] == {"gpu": 1}


def test_no_path_is_spelled_outside_the_layout() -> None:
    """A result's place is in nsa/layout.py and nowhere else: rules, commands and fixes ask it."""
    rules = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    lines = [(path.name, line) for path in rules for line in path.read_text().splitlines()]
    modules = [path for path in (ROOT / "nsa").rglob("*.py") if path.name != "layout.py"]
    found = lines + [(path.name, text) for path in modules for text in texts(ast.parse(path.read_text()))]
    spelled = [(name, text) for name, text in found if re.search(r"^results$|[\"']results[\"']|results/\S", text)]
    assert spelled == []


def texts(tree: ast.Module) -> list[str]:
    """Every piece of text in a module but its docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documented)
    return [node.value for node in constants if isinstance(node.value, str)]
