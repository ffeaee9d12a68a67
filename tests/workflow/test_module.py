"""This workflow as a module of another one, and the configuration as every reader reads it."""

from __future__ import annotations

import pytest
from project import Project

MODULE = """configfile: "config.yaml"

module nsa:
    snakefile: "Snakefile"
    config: config
    {moved}

use rule * from nsa as nsa_*
"""


def planned_as_module(project: Project, moved: str) -> tuple[int, str]:
    """Exit status and words of a dry run of a workflow that uses this one as a module."""
    (project.root / "outer.smk").write_text(MODULE.format(moved=moved))
    ended = project.run("--dry-run", "--snakefile", "outer.smk", "nsa_all")
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("moved", "where"),
    [
        ('prefix: "sub"', "sub/results/gate_report.md"),
        ('replace_prefix: {"results/": "other/"}', "other/gate_report.md"),
    ],
)
def test_a_module_whose_paths_are_moved_is_one_line(moved: str, where: str, project: Project) -> None:
    """Stamps and locks do not move along, so a prefix is refused, with what to do instead."""
    status, said = planned_as_module(project, moved)
    assert status != 0
    line = f"error: module: its prefix puts results/gate_report.md at {where}, expected no prefix and no replace_prefix"
    assert [text for text in said.splitlines() if "rror" in text] == [
        f"{line}; leave it out, or run this workflow by itself with `snakemake --directory`"
    ]


def test_a_module_without_a_prefix_is_the_workflow(project: Project) -> None:
    """The rules of a module plan what the workflow itself would."""
    (project.root / "results" / "check_sdpa.parquet").unlink()
    status, said = planned_as_module(project, "")
    assert status == 0, said
    assert "kernel check: sdpa" in said and "kernel check: cuda" not in said


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"contexts": ["128"]}, "contexts.0: got '128', expected a whole number of at least 1"),
        ({"decode": {"iters": "3"}}, "decode.iters: got '3', expected a whole number of at least 1"),
        ({"candidates": "[cuda]"}, "candidates: got '[cuda]', expected a list of distinct backends"),
    ],
)
def test_a_text_in_the_file_is_a_text_for_every_reader(changes: dict[str, object], line: str, project: Project) -> None:
    """What Snakemake refuses the doctor refuses, in the same words."""
    project.configure(**changes)
    ran, asked = project.run("--dry-run"), project.nsa("doctor")
    assert ran.returncode != 0 and line in ran.stderr
    assert asked.returncode != 0 and line in asked.stdout + asked.stderr


def test_what_is_given_for_one_run_is_read_as_the_file_is(project: Project) -> None:
    """Numbers in lists and mappings of `--config` are numbers, beside a file's own keys."""
    assert project.planned("--config", "contexts=[128]", "decode={iters: 3, dtype: {cpu: float32}}") == set()
    assert project.planned("--config", "contexts=[128, 64]") != set()
