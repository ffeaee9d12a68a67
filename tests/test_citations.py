"""What a source or a test cites is a page of this repository, and a heading that the page has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT, headings

TEXTS = (".py", ".smk", ".cuh", ".cu", ".cpp", ".h", ".j2", ".yaml")
CITED = re.compile(r"docs/([\w-]+\.md)(?:#([\w-]+))?")
ELSEWHERE = re.compile(r'\b(?:measurement|interfaces|decode|house|layout)\.md|\b(?:measurement|interfaces|guide), "')


def faults(source: Path) -> Iterator[str]:
    """Citations in one file that lead nowhere."""
    text = source.read_text()
    yield from ELSEWHERE.findall(text)
    for name, anchor in CITED.findall(text):
        page = ROOT / "docs" / name
        if not page.is_file() or (anchor and anchor not in headings(page)):
            yield f"docs/{name}#{anchor}"


def test_citations_lead_somewhere() -> None:
    """Every cited page and heading is in docs/, and nothing cites a page that a reader does not have."""
    files = [path for folder in ("nsa", "tests", "workflow") for path in (ROOT / folder).rglob("*")]
    sources = [path for path in files if path.suffix in TEXTS and path != Path(__file__)]
    assert {str(path): found for path in sources if (found := list(faults(path)))} == {}
