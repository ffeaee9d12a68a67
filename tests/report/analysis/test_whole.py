"""A record whose rows are not those that its processes made, each once, is INVALID, with one line that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
from synthetic import CONFIG
from synthetic_cell import decode_facts

from nsa.records import parquet, schemas
from nsa.records.decode import DecodeFacts
from nsa.records.facts import CheckFacts
from nsa.records.outcome import Header
from nsa.report.analysis.read import read_cell, read_check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.report.conftest import Lab


def edited(path: Path, facts: type[DecodeFacts | CheckFacts], change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """The record with other rows."""
    schema = schemas.REPETITIONS if facts is DecodeFacts else schemas.CHECK_REPETITIONS
    table, header = parquet.read(path, Header[facts], schema)  # type: ignore[valid-type]
    rows = change(table.to_pandas()).astype(object)
    parquet.write(path, rows.where(rows.notna(), None).to_dict("records"), schema, header)
    return path


def twice(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows, and those that match once more."""
    chosen = pd.Series(True, rows.index)
    for column, value in where.items():
        chosen &= rows[column] == value
    return pd.concat([rows, rows[chosen]], ignore_index=True)


def copied(rows: pd.DataFrame) -> pd.DataFrame:
    """Process 0 in the place of process 2."""
    return pd.concat([rows[rows["process"] < 2], rows[rows["process"] == 0].assign(process=2)], ignore_index=True)


def judging(rows: pd.DataFrame, count: int | None, **where: object) -> pd.DataFrame:
    """Another number of judged outputs in the rows that match."""
    chosen = rows["judged"].notna()
    for column, value in where.items():
        chosen &= rows[column] == value
    return rows.assign(judged=rows["judged"].mask(chosen, count))


def without(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """All rows but those that match."""
    chosen = pd.Series(True, rows.index)
    for column, value in where.items():
        chosen &= rows[column] == value
    return rows[~chosen]


CELLS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "an arm twice in one process": (
        lambda rows: twice(rows, process=1, arm="sel", emits=True, mode="graph", cache_state="warm"),
        "process 1 timed arm sel (graph, warm, emitting) 16 times, and process 0 8 times, expected as often in every",
    ),
    "an arm twice in all": (
        lambda rows: twice(rows, arm="sel", emits=True, mode="graph", cache_state="cold"),
        "process 0 timed arm sel (graph, cold, emitting) 16 times, and arm all (graph, cold, not emitting) 8 times",
    ),
    "a process twice": (
        lambda rows: twice(rows, process=1),
        "process 1 timed arm all (eager, warm, not emitting) 16 times, and ",
    ),
    "every row twice": (twice, "every row of process 0 is there twice"),
    "one process as two": (copied, "processes 0 and 2 have the same times, expected their own"),
    "fewer in one": (
        lambda rows: without(rows, process=2, mode="eager", block=1),
        "process 2 timed arm all (eager, warm, not emitting) 4 times, and process 0 8 times",
    ),
    "a mode missing in one": (
        lambda rows: without(rows, process=2, mode="eager"),
        "process 2 timed arm all (eager, warm, not emitting) 0 times, and process 0 8 times",
    ),
    "a control missing in one": (
        lambda rows: without(rows, process=2, arm="control:train"),
        "process 2 timed arm control:train (graph, cold) 0 times, and process 0 6 times",
    ),
    "a row without an arm": (
        lambda rows: rows.assign(arm=rows["arm"].mask(rows.index == 5)),
        "arm is null in a row of process 0",
    ),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_whose_rows_are_not_its_own_is_invalid(lab: Lab, case: str) -> None:
    """Rows that are there twice, copied from another process or missing in one are found by what they are of."""
    change, said = CELLS[case]
    cell = read_cell(edited(lab.cell(), DecodeFacts, change))
    assert (cell.status, said in str(cell.reason)) == ("invalid", True), cell.reason
    assert "\n" not in str(cell.reason)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_sound_records_are_whole(lab: Lab, device: str) -> None:
    """Nothing is found where nothing is wrong, nor where a clock is so coarse that all times are alike."""
    for noise in (1e-3, 0.0):
        assert read_cell(lab.cell(device=device, noise=noise)).ok
    assert read_check(lab.check(device=device)).ok


def test_reads_that_do_not_add_up_make_a_cell_invalid(lab: Lab) -> None:
    """The branches' reads are those of the step."""
    reads = decode_facts(2048, "cuda", 1).reads
    cell = read_cell(lab.cell(facts={"reads": reads.model_copy(update={"win": reads.win - 1})}))
    assert cell.status == "invalid"
    assert "reads are 1662 in the branches and 1663 in all" in str(cell.reason)


CHECKS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "a kernel twice in one process": (
        lambda rows: twice(rows, process=1, backend="cuda", value_dim=64, sel_count=8),
        "process 1 timed cuda on N=256 h=4 D=64 Dv=64 n=8 10 times, and process 0 5 times",
    ),
    "a kernel twice in all": (
        lambda rows: twice(rows[rows["value_ns"].notna()], backend="sdpa:varlen"),
        "process 0 timed sdpa:varlen on N=256 h=4 D=64 Dv=64 n=8 10 times, and again:cuda on N=256 h=4 D=64 Dv=64",
    ),
    "a kernel missing in one": (
        lambda rows: without(rows, process=1, backend="sdpa:varlen", value_dim=128),
        "process 1 timed sdpa:varlen on N=256 h=4 D=64 Dv=128 n=8 0 times, and process 0 5 times",
    ),
    "one process as two": (copied, "processes 0 and 2 have the same times, expected their own"),
    "a shape that is null": (
        lambda rows: rows.assign(head_dim=rows["head_dim"].mask(rows.index == 7)),
        "head_dim is null in a row of process 0",
    ),
    "a backend that is null": (
        lambda rows: rows.assign(backend=rows["backend"].mask(rows.index == 7)),
        "backend is null in a row of process",
    ),
    "fewer judged than timed": (
        lambda rows: judging(rows, 4, process=1, backend="cuda"),
        "process 1 timed cuda on N=256 h=4 D=64 Dv=64 n=8 5 times and judged 4 of its outputs, expected all",
    ),
    "none judged": (
        lambda rows: judging(rows, None, backend="sdpa:varlen"),
        "timed sdpa:varlen on N=256 h=4 D=64 Dv=64 n=8 5 times and judged 0 of its outputs, expected all",
    ),
    "more judged than timed": (
        lambda rows: judging(rows, 50, backend="cuda"),
        "timed cuda on N=256 h=4 D=64 Dv=64 n=8 5 times and judged 50 of its outputs, expected all",
    ),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_check_whose_rows_are_not_its_own_is_invalid(lab: Lab, case: str) -> None:
    """The same of a kernel check, and as many outputs were judged of each kernel, shape and process as were timed."""
    change, said = CHECKS[case]
    record = read_check(edited(lab.check(), CheckFacts, change))
    assert (record.status, said in str(record.reason)) == ("invalid", True), record.reason


def test_a_shape_that_nobody_asked_for_makes_a_check_invalid(lab: Lab) -> None:
    """Rows of a shape that is not on the grid are rows of something else."""
    strange = edited(lab.check(), CheckFacts, lambda rows: rows.assign(sel_count=rows["sel_count"].replace(16, 12)))
    (accept, *_) = lab.run([], [strange]).accepts
    assert accept.verdict == "NOT MEASURED"
    assert "N=256 h=4 D=64 Dv=64 n=12 is no shape of the grid that the settings ask for" in accept.reason
    assert CONFIG.check.sel_count == (8, 16)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf")])
def test_a_bandwidth_is_a_number_above_0(lab: Lab, rate: float) -> None:
    """A floor that is made of nothing, or of less, is none: such a cell or check is INVALID."""
    facts = {"bandwidth_bytes_per_s": (4e12, rate, 4e12)}
    for record in (read_cell(lab.cell(facts=facts)), read_check(lab.check(facts=facts))):
        assert record.status == "invalid", rate
