"""Which records may be used: a stale, broken or incomplete one never gives rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nsa.errors import RecordError
from nsa.report.analysis.read import read_cell, read_check

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_a_sound_cell_gives_its_rows(lab: Lab) -> None:
    """Else every other test here would pass with a reader that refuses everything."""
    cell = read_cell(lab.cell("sdpa", 128), lab.stamps)
    assert (cell.backend, cell.S, cell.status, cell.reason, cell.name) == ("sdpa", 128, "ok", None, "sdpa/S128")
    assert len(cell.rows) > 0


@pytest.mark.parametrize("key", ["sources", "settings", "machine"])
def test_a_cell_of_another_stamp_is_stale_and_gives_no_rows(lab: Lab, key: str) -> None:
    """Times of other code, settings or another machine would be reported as today's."""
    cell = read_cell(lab.cell(facts={"stamp": {**lab.stamp, key: "old"}}), lab.stamps)
    assert (cell.status, len(cell.rows)) == ("stale", 0)
    assert key in str(cell.reason)


def test_a_cell_without_a_stamp_of_today_is_stale(lab: Lab) -> None:
    """What cannot be compared cannot be trusted."""
    assert read_cell(lab.cell(), {}).status == "stale"


def test_a_stale_status_hides_an_old_reason(lab: Lab) -> None:
    """An unavailability that was found on another machine says nothing about this one."""
    path = lab.cell(status="unavailable", facts={"stamp": {**lab.stamp, "machine": "other"}})
    assert read_cell(path, lab.stamps).status == "stale"


def test_an_unreadable_cell_is_invalid_with_its_message(lab: Lab) -> None:
    """One broken file must neither stop the report nor pass silently."""
    path = lab.cell()
    path.write_bytes(b"PAR1 but not really")
    cell = read_cell(path, lab.stamps)
    assert (cell.status, len(cell.rows)) == ("invalid", 0)
    assert "not a readable Parquet file" in str(cell.reason)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": {"arm": "all_without_sel"}}, "arm 'all_without_sel' has no graph/cold times"),
        ({"drop": {"arm": "win", "process": 1}}, "process 1 lacks graph/cold times of arm 'win'"),
        ({"drop": {"arm": "win", "process": 1, "emits": True}}, "process 1 lacks graph/cold times of arm 'win'"),
        ({"drop": {"mode": "graph"}}, "has no graph/cold times"),
        ({"alter": ({"process": 2}, {"value_ns": 0})}, "a value_ns is 0"),
        ({"facts": {"reads": None}}, "lacks the facts reads"),
    ],
)
def test_an_incomplete_cell_is_invalid(lab: Lab, change: dict[str, Any], said: str) -> None:
    """A missing arm, process or kind of step would give a difference of unlike things, or a NaN."""
    cell = read_cell(lab.cell(**change), lab.stamps)
    assert cell.status == "invalid"
    assert said in str(cell.reason)


@pytest.mark.parametrize("facts", [{"S": 256}, {"backend": "triton"}, {"stage": "check"}, {"status": None}])
def test_a_cell_that_says_it_is_another_is_invalid(lab: Lab, facts: dict[str, Any]) -> None:
    """A file copied to the wrong name would give one context another's figures."""
    assert read_cell(lab.cell("sdpa", 2048, facts=facts), lab.stamps).status == "invalid"


def test_a_path_that_names_no_cell_is_an_error(tmp_path: Path) -> None:
    """S and backend of an unreadable file come from its path."""
    with pytest.raises(RecordError, match="expected"):
        read_cell(tmp_path / "decode" / "sdpa" / "latest.parquet")
    with pytest.raises(RecordError, match="expected"):
        read_check(tmp_path / "cuda.parquet")


def test_check_records_are_judged_alike(lab: Lab) -> None:
    """The kernel check decides what ships: a stale or foreign one must not be used either."""
    assert read_check(lab.check("cuda"), lab.stamps).status == "ok"
    old = read_check(lab.check("cuda", facts={"stamp": {**lab.stamp, "sources": "old"}}), lab.stamps)
    assert (old.status, len(old.rows)) == ("stale", 0)
    assert read_check(lab.check("cuda", facts={"backend": "fa2"}), lab.stamps).status == "invalid"
