"""Which stages read a source, as their stamps tell: an edit of it is an edit of these, and of no other.

That a stage whose stamp changed runs again, with all that reads what it makes, is what test_rerun.py shows.
"""

from __future__ import annotations

import json
from os.path import normpath

import pytest
from expected import BACKENDS, BUILD, NOTHING, REPORT, TUNE, backend, decoded, each, of_stages
from project import Project

CASES: dict[str, tuple[str, set[str]]] = {
    ".cuh": ("nsa/kernels/extension/csrc/tile.cuh", {BUILD} | backend("cuda")),
    "Triton kernel": ("nsa/kernels/triton/kernel.py", {TUNE} | backend("triton")),
    "fa2": ("nsa/kernels/fa2/package.py", backend("fa2")),
    "packed SDPA": ("nsa/kernels/sdpa/packed.py", backend("sdpa") | each("check")),  # every candidate competes with it
    "attention": ("nsa/attention/rope.py", decoded(*BACKENDS)),
    "arms": ("nsa/bench/decode/arms.py", decoded(*BACKENDS)),
    "kernel check": ("nsa/bench/check/replicate.py", each("check") | REPORT),
    "profiled program": ("nsa/bench/dram/target.py", each("dram") | REPORT),
    "statistics": ("nsa/report/analysis/stats.py", REPORT),
    "template": ("nsa/report/page/templates/gate_report.md.j2", REPORT),
    "console": ("nsa/cli/console.py", NOTHING),
}


@pytest.fixture(scope="module")
def read(finished: Project) -> dict[str, list[str]]:
    """The sources that each stage's stamp lists, one beside a package by its own place."""
    stamps = (finished.root / "results" / ".stamps").glob("*.json")
    listed = {stamp.stem: json.loads(stamp.read_text())["sources"]["files"] for stamp in stamps}
    return {stage: [normpath(file) for file in files] for stage, files in listed.items()}


@pytest.mark.parametrize("case", CASES)
def test_exactly_these_stages_read_a_source(case: str, read: dict[str, list[str]], finished: Project) -> None:
    """No figure is credited to code that did not make it, and nothing else is measured again."""
    source, expected = CASES[case]
    assert (finished.root / source).is_file()
    assert of_stages(stage for stage, files in read.items() if source in files) == expected
