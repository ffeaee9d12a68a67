"""nsa.report.load: every record of a folder in tidy frames, and those that are not ok told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nsa.report
from nsa.errors import RecordError
from nsa.report.analysis.read import primary_rows, read_cell

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_every_record_has_its_rows(lab: Lab) -> None:
    """Cells, repetitions and checks are all there; one that did not run has its reason and no figures."""
    path = lab.cell("sdpa", 128)
    lab.cell("sdpa", 2048), lab.cell("cuda", 128, status="oom"), lab.check("cuda")
    found = nsa.report.load(lab.root)
    assert found.records.set_index("name")["status"].to_dict() == {
        "cuda/S128": "oom",
        "sdpa/S128": "ok",
        "sdpa/S2048": "ok",
        "check_cuda": "ok",
    }
    assert found.records.loc[found.records["status"] == "oom", "reason"].item() == "cuda is not here"
    cells = found.cells.set_index(["backend", "S"])
    (expected,) = lab.summaries([path])
    assert cells.loc[("sdpa", 128), "ms_total"] == expected.figures.arms.ms_total.value
    assert cells["ms_total"].isna().to_dict() == {("cuda", 128): True, ("sdpa", 128): False, ("sdpa", 2048): False}
    own = found.repetitions.query("backend == 'sdpa' and S == 128 and mode == 'graph' and cache_state == 'cold'")
    assert sorted(own["value_ns"]) == sorted(primary_rows(read_cell(path))["value_ns"])
    assert set(found.checks["candidate"]) == {"cuda"} and found.checks["case"].notna().sum() == 47
    assert len(found.roofline) == len(found.dram) == 0


def test_a_broken_record_hides_no_other(lab: Lab) -> None:
    """A file that cannot be read is named, and the others are there."""
    lab.cell("sdpa", 128)
    lab.cell("cuda", 128).write_bytes(b"broken")
    found = nsa.report.load(str(lab.root))
    assert dict(zip(found.records["name"], found.records["status"], strict=True)) == {
        "cuda/S128": "invalid",
        "sdpa/S128": "ok",
    }
    assert set(found.repetitions["backend"]) == {"sdpa"}


def test_a_folder_without_records_is_one_clear_error(lab: Lab) -> None:
    """Nothing is no empty frame."""
    with pytest.raises(RecordError, match=r"no records, expected .*; run `snakemake` first"):
        nsa.report.load(lab.root)
