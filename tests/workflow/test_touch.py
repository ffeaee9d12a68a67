"""`snakemake --touch` after an edit: the fix that the doctor names makes what it passed off as new again."""

from __future__ import annotations

import re

import pytest
from project import Project


@pytest.mark.parametrize(
    ("source", "stale"),
    [
        (
            "nsa/kernels/fa2/package.py",
            ["check_fa2.parquet", "decode/fa2/S128.parquet", "dram_fa2.json"],
        ),
        ("nsa/report/page/plots.py", ["gate.json"]),
    ],
)
def test_what_touch_passed_off_as_new_is_named_with_a_fix_that_works(
    source: str, stale: list[str], project: Project
) -> None:
    """Snakemake alone does nothing about it; after the deletions that the doctor names it makes just that again."""
    project.append(source, "\nEDITED = 1\n")
    jobs = project.planned()
    touched = project.start("--touch").end()
    assert touched.returncode == 0, touched.stdout + touched.stderr
    assert project.planned() == set()
    found = [line for line in project.nsa("doctor").stdout.splitlines() if ": stale: " in line]
    named = [re.search(r"; delete results/(\S+), then run `snakemake`$", line) for line in found]
    assert sorted(match[1] for match in named if match) == stale and all(named)
    for name in stale:
        (project.root / "results" / name).unlink()
    assert project.planned() == jobs
