"""A core check whose rows are not those that its processes made, each once, is INVALID, with one line that says why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from nsa.records import parquet, schemas
from nsa.records.facts import CoreFacts
from nsa.records.outcome import Header
from nsa.report.analysis.core import read_core
from nsa.report.analysis.read import read_check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.report.conftest import Lab

Rows = list[dict[str, object]]


def edited(path: Path, change: Callable[[Rows], Rows]) -> Path:
    """The record with other rows."""
    table, header = parquet.read(path, Header[CoreFacts], schemas.CORE)
    parquet.write(path, change(table.to_pylist()), schemas.CORE, header)
    return path


def without(holds: Callable[[dict[str, object]], bool]) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if not holds(row)]


def each(holds: Callable[[dict[str, object]], bool], **changes: object) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, **changes} if holds(row) else row for row in rows]


def timed(row: dict[str, object], backend: str = "fused") -> bool:
    return row["backend"] == backend and row["value_ns"] is not None


def copied(rows: Rows) -> Rows:
    """The second process is the first one once more."""
    own = [row for row in rows if row["process"] != 1]
    first = [row for row in own if row["process"] == 0 and row["case"] in (None, "timed", "unseen")]
    return own + [{**row, "process": 1} for row in first]


SPOILT: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "every row twice": (lambda rows: rows + rows, "is there twice"),
    "the core's rows twice": (
        lambda rows: rows + [row for row in rows if timed(row)],
        r"timed fused on B=1 S=8192 D=128 Dv=128 8 times, and .* 4 times, expected as often",
    ),
    "a rival is missing in one process": (
        without(lambda row: row["backend"] == "dense:cudnn" and row["process"] == 0),
        "process 0 timed dense:cudnn on .* 0 times, and process 1 4 times",
    ),
    "a rival was timed less often": (
        without(lambda row: timed(row, "dense:cudnn") and row["order"] == 0),
        "4 times, and dense:cudnn on .* 3 times, expected as often",
    ),
    "a process is a copy": (copied, "processes 0 and 1 have the same times"),
    "no unseen inputs": (without(lambda row: row["case"] == "unseen"), "on 0 unseen inputs, expected 1"),
    "no unseen inputs in one process": (
        without(lambda row: row["case"] == "unseen" and row["process"] == 1),
        "process 1 tried fused on .* on 0 unseen inputs, expected 1",
    ),
    "few outputs were judged": (
        each(lambda row: row["case"] == "timed" and row["process"] == 2, judged=1),
        "process 2 timed .* 4 times and judged 1 of its outputs, expected all",
    ),
    "no floor": (each(timed, floor_bytes=0), "floor_bytes of a timed call is null or not above 0"),
    "no floor at all": (each(timed, floor_bytes=None), "floor_bytes of a timed call is null or not above 0"),
    "an error below zero": (each(lambda row: row["case"] == "no token", error=-1.0), "error is -1, expected a number"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_core_check_whose_rows_are_not_its_own_is_invalid(lab: Lab, case: str) -> None:
    """One line says which rows; no verdict is made of them."""
    change, said = SPOILT[case]
    record = read_core(edited(lab.core(), change), lab.stamps)
    assert record.status == "invalid" and record.reason is not None
    assert re.search(said, record.reason), record.reason


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("stage", ["core", "core_curve"])
def test_sound_records_are_whole(lab: Lab, device: str, stage: str) -> None:
    """What the bench writes is read; a curve has no unseen inputs."""
    path = lab.core(stage=stage, device=device)
    if stage == "core_curve":
        table, header = parquet.read(path, Header[CoreFacts], schemas.CORE)
        rows = [row for row in table.to_pylist() if row["case"] != "unseen"]
        parquet.write(path, rows, schemas.CORE, header)
    assert read_core(path, lab.stamps, stage).ok


def test_an_error_below_zero_makes_a_kernel_check_invalid(lab: Lab) -> None:
    """Of packed SDPA as of the kernel."""
    path = lab.check(alter=({"backend": "sdpa:gather"}, {"oracle_error": -1.0}))
    assert "oracle_error is -1, expected a number of at least 0" in str(read_check(path, lab.stamps).reason)
