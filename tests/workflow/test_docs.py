"""The tables in docs/ name the tests that hold them."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py::[^`]+)`")


class Seen:
    """A plugin that sends on what was collected."""

    def __init__(self, to: Connection) -> None:
        self.to = to

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.to.send({item.nodeid for item in session.items})


def collect(files: Sequence[str], to: Connection) -> None:
    """Collect these files and run nothing; in a fork, which has imported most of what they need."""
    os.chdir(ROOT)
    pytest.main(["--collect-only", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *files], [Seen(to)])


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every test in the files that the two pages name."""
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("reruns.md", "faults.md"))
    files = sorted({name.partition("::")[0] for name in NAMED.findall(pages)})
    forks = multiprocessing.get_context("fork")
    ours, its = forks.Pipe(duplex=False)
    collector = forks.Process(target=collect, args=(files, its))
    collector.start()
    its.close()
    found = ours.recv()
    collector.join()
    assert collector.exitcode == 0
    return found


@pytest.mark.parametrize("page", ["reruns.md", "faults.md"])
def test_every_row_names_a_test_that_exists(page: str, known: set[str]) -> None:
    """A page promises nothing that no test holds."""
    rows = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert [row for row in rows if row != "| --- | --- | --- |" and not set(NAMED.findall(row)) & known] == []


def test_every_rerun_case_is_in_the_table(known: set[str]) -> None:
    """Readers learn of every case that is proven."""
    cases = {name for name in known if "::test_exactly_these_" in name}
    assert cases and cases - set(NAMED.findall((ROOT / "docs" / "reruns.md").read_text())) == set()
