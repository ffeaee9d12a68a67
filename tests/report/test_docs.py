"""docs/report.md: its example runs on a folder of records, and its pictures are there and small."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.report.conftest import Lab

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


def test_the_notebooks_example_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The code of the page prints the ratios and the spread of the records that are there."""
    for S in lab.config.contexts:
        lab.cell("sdpa", S), lab.cell("cuda", S, parts={"sel": 0.015})
    lab.cell("fa2", 128, status="oom")
    (lab.root / "results").symlink_to(lab.root)
    monkeypatch.chdir(lab.root)
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (lab.root / "example.py").write_text(example)
    runpy.run_path(str(lab.root / "example.py"))
    said = capsys.readouterr().out
    ratio = 0.096 / (0.096 - 0.025)
    assert f"{ratio:.2f}" in said and "fa2" not in said
    assert re.search(r"graph +cold +1\.0", said)


def test_the_pictures_are_there_and_small() -> None:
    """Each picture of the page is a file of less than 200 kB, with a text for those who do not see it."""
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", PAGE.read_text())
    assert len(pictures) == 2
    for text, name in pictures:
        assert text and 0 < (PAGE.parent / name).stat().st_size < 200_000, name
