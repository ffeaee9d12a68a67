"""What the processes of a kernel check say of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.report.analysis.read import read_cell, read_check
from nsa.report.analysis.replicates import again_ratio, cell_paces, paces

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_the_aa_ratio_is_the_geometric_mean_over_shapes_in_each_process(lab: Lab) -> None:
    """One of four shapes that is twice as slow the second time makes a ratio of the fourth root of 2."""
    slow = {"backend": "again:cuda", "value_dim": 64, "sel_count": 8}
    path = lab.check("cuda", alter=(slow, {"value_ns": 60_000}))
    ratio = again_ratio(read_check(path), 0.95)
    assert ratio is not None
    assert (ratio.value, ratio.processes) == (pytest.approx(2**0.25, rel=2e-3), 3)
    assert ratio.low < ratio.value < ratio.high


def test_without_a_second_timing_there_is_no_ratio(lab: Lab) -> None:
    """A kernel that was timed once, or not at all, has no A/A ratio."""
    assert again_ratio(read_check(lab.check("cuda", drop={"backend": "again:cuda"})), 0.95) is None
    assert again_ratio(read_check(lab.check("fa2", device="cpu")), 0.95) is None


def test_a_pace_is_over_the_median_of_the_processes(lab: Lab) -> None:
    """A process that takes three times as long for one kernel has a pace of 3 on it, the others of 1."""
    path = lab.check("cuda", processes=5, alter=({"process": 2, "backend": "sdpa:varlen"}, {"value_ns": 270_000}))
    found = {(pace.timed, pace.process): pace.ratio for pace in paces(read_check(path))}
    assert len(found) == 6 * 5
    assert found.pop(("sdpa:varlen", 2)) == pytest.approx(3, rel=0.01)
    assert list(found.values()) == pytest.approx([1.0] * 29, rel=0.01)


def test_a_pace_in_a_cell_is_of_an_arm(lab: Lab) -> None:
    """A process that takes twice as long in one arm has a pace of 2 on it, the others of 1."""
    cell = read_cell(lab.cell(processes=5))
    slow = (cell.rows["process"] == 2) & (cell.rows["arm"] == "sel")
    cell.rows.loc[slow, "value_ns"] *= 2
    found = {(pace.timed, pace.process): pace.ratio for pace in cell_paces(cell)}
    assert len(found) == 8 * 5
    assert found.pop(("arm sel", 2)) == pytest.approx(2, rel=0.01)
    assert list(found.values()) == pytest.approx([1.0] * 39, rel=0.01)


def test_a_check_without_times_has_no_paces(lab: Lab) -> None:
    """On a CPU nothing is timed, so no process has a pace."""
    assert paces(read_check(lab.check("cuda", device="cpu"))) == []


def test_one_tick_in_every_process_and_shape_is_no_bias(lab: Lab) -> None:
    """A kernel whose second name takes 0.5 µs longer everywhere differs by what the clock may."""
    record = read_check(lab.check("cuda", processes=10))
    for name, value in (("cuda", 30_000), ("again:cuda", 30_500)):
        record.rows.loc[record.rows["value_ns"].notna() & (record.rows["backend"] == name), "value_ns"] = value
    ratio = again_ratio(record, 0.95)
    assert ratio is not None and ratio.value == pytest.approx(30.5 / 30)
    assert ratio.low < 1 < ratio.high
