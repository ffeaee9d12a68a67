"""The tables in docs/ name the tests that hold them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py::[^`]+)`")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every test in the files that the two pages name."""
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("reruns.md", "faults.md"))
    files = sorted({name.partition("::")[0] for name in NAMED.findall(pages)})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return {line for line in listed.splitlines() if "::" in line}


@pytest.mark.parametrize("page", ["reruns.md", "faults.md"])
def test_every_row_names_a_test_that_exists(page: str, known: set[str]) -> None:
    """A page promises nothing that no test holds."""
    rows = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert [row for row in rows if row != "| --- | --- | --- |" and not set(NAMED.findall(row)) & known] == []


def test_every_rerun_case_is_in_the_table(known: set[str]) -> None:
    """Readers learn of every case that is proven."""
    cases = {name for name in known if "test_exactly_these_jobs_run_again" in name}
    assert cases - set(NAMED.findall((ROOT / "docs" / "reruns.md").read_text())) == set()
