"""docs/tour.md: its program finds, step by step, the share and the verdict that the report has."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa.records import files

if TYPE_CHECKING:
    from tests.report.conftest import Lab

PAGE = (Path(__file__).parents[2] / "docs" / "tour.md").read_text()
PLACED = re.compile(r"`[A-Za-z_][\w.]*`\s+\(`nsa/(\w+)/[\w/]*\w+\.py`\)")


def test_the_program_finds_what_the_report_says(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The share and its interval, from the rows by hand, are those of gate.json, and so is the way of packing."""
    lab = replace(lab, config=lab.config.model_copy(update={"contexts": (1024, 4096)}))
    cells = [lab.cell("sdpa", S, noise=5e-3, variants={"varlen": 0.03, "blocks": 0.05}) for S in lab.config.contexts]
    (found,) = (each for each in lab.render(cells)["invest"]["contexts"] if each["S"] == 4096)
    (lab.root / "results").symlink_to(lab.root)
    monkeypatch.chdir(lab.root)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    files.write_text(lab.root / "tour.py", "".join(blocks))
    made = runpy.run_path(str(lab.root / "tour.py"))
    assert made["packing"] == f"@{found['variant']}" == "@varlen"
    assert made["share"].mean() == pytest.approx(found["share"]["value"])
    assert made["half"] == pytest.approx((found["share"]["high"] - found["share"]["low"]) / 2)
    said = capsys.readouterr().out
    assert f"sel@varlen: {found['share']['value']:.1f} [{found['share']['low']:.1f}, " in said
    assert "reads_differ" in said and "GO [" in said


def test_the_way_is_the_same_without_a_gpu(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With the S, mode and cache state that the page's comments name for a CPU, to a verdict that is NOT MEASURED."""
    lab = replace(lab, config=lab.config.model_copy(update={"contexts": (1024,)}))
    lab.render([lab.cell("sdpa", 1024, device="cpu")])
    (lab.root / "results").symlink_to(lab.root)
    monkeypatch.chdir(lab.root)
    program = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    for on_gpu, on_cpu in {"S = 4096": "S = 1024", '"graph"': '"eager"', '"cold"': '"warm"'}.items():
        assert on_gpu in program
        program = program.replace(on_gpu, on_cpu)
    files.write_text(lab.root / "tour.py", program)
    assert runpy.run_path(str(lab.root / "tour.py"))["gate"]["verdict"] == "NOT MEASURED"
    assert "NOT MEASURED" in capsys.readouterr().out


def test_every_stop_names_its_function() -> None:
    """Each stop names one at least, in bench, records and report; tests/test_readme.py holds that they are there."""
    stops = PAGE.split("\n## ")[1:]
    assert len(stops) == 7 and all(PLACED.search(stop) for stop in stops)
    assert set(PLACED.findall(PAGE)) == {"bench", "records", "report"}


def test_the_figures_are_those_of_the_run_that_is_kept() -> None:
    """The share that the tour follows, its interval and its commit are in docs/decisions.md."""
    kept = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    shares = set(re.findall(r"[\d.]+ (?:% )?\[[\d.]+, [\d.]+\]", PAGE))
    commits = set(re.findall(r"commit (\w{7})", PAGE))
    assert shares and commits and {share.replace(" %", "") for share in shares} == {"65.5 [65.2, 65.9]"}
    assert all(quoted in kept for quoted in {"65.5 [65.2, 65.9]", *commits})
