"""The rules as they are written."""

from __future__ import annotations

import re

import pytest
import yaml
from project import Project


def test_snakemake_finds_nothing_to_improve(finished: Project) -> None:
    """Without it, the rules could drift from Snakemake's own good practice."""
    result = finished.snakemake("--lint")
    assert result.returncode == 0, result.stderr


def test_a_rule_is_replaced_by_its_command(finished: Project) -> None:
    """Without it, a shell would stand between Snakemake and the command, and killing the one would miss the other."""
    for rules in (finished.root / "workflow" / "rules").glob("*.smk"):
        for command in re.findall(r"shell:\n\s+\"(.+?) ", rules.read_text()):
            assert command == "exec", rules.name


@pytest.mark.parametrize("rule", ["tune", "decode", "check", "dram", "roofline"])
def test_a_timed_job_runs_alone(rule: str, finished: Project) -> None:
    """Without it, `--cores 4` would time four cells against each other."""
    assert "    resources:\n        gpu=1,\n" in (finished.root / "workflow" / "rules" / f"{rule}.smk").read_text()
    profile = yaml.safe_load((finished.root / "profiles" / "default" / "profile.yaml").read_text())
    assert profile["resources"] == {"gpu": 1}
