"""CITATION.cff: what code hosts and reference managers read of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    """The keys that the format requires are there, and version and licence are those of the package."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2502.11089"
