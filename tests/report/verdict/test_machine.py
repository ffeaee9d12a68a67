"""A machine that was not the same for all that a run timed is named, and beyond a bound keeps the run from deciding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from synthetic import replicate

from nsa.report.analysis.read import primary_rows, read_cell
from nsa.report.verdict.checks import Check
from nsa.report.verdict.machine import throttled
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

TRAIN = {"arm": "control:train", "process": 1}


def fired(lab: Lab, cells: list[Path], checks: list[Path] | None = None) -> dict[tuple[str, str], Check]:
    """The checks that fired on some records, by record and name."""
    return {(check.cell, check.name): check for check in lab.run(cells, checks or []).checks if check.fired}


@pytest.mark.parametrize(
    ("train_ns", "severity"), [(60_500, None), (61_000, WARNING), (62_500, WARNING), (63_600, BLOCKING)]
)
def test_a_control_that_moves_between_processes_warns_and_then_blocks(
    lab: Lab, train_ns: int, severity: str | None
) -> None:
    """More than 1 % between the processes of a record warns, more than 5 % decides nothing; both are named."""
    for cells, checks, name in (
        ([lab.cell(iters=12, alter=(TRAIN, {"value_ns": train_ns}))], [], "sdpa/S2048"),
        ([], [lab.check(alter=({"backend": "control:train", "process": 1}, {"value_ns": train_ns}))], "check_cuda"),
    ):
        found = fired(lab, cells, checks)
        assert {key: check.severity for key, check in found.items()} == (
            {(name, "control_moved"): severity} if severity else {}
        )
        if severity:
            said = found[name, "control_moved"].message
            assert f"its train went from 60.03 µs in process 0 to {train_ns / 1e3:.4g} in process 1" in said


def test_a_control_that_differs_between_records_names_the_one_apart(lab: Lab) -> None:
    """A cell that was timed on another machine than the run's other records warns, then blocks; the others do not."""
    others = [lab.cell("sdpa", S, iters=12) for S in (2048, 2049, 2050)]
    for stream_ns, severity in ((92_000, WARNING), (96_000, BLOCKING)):
        apart = lab.cell("cuda", 2048, iters=12, alter=({"arm": "control:copy"}, {"value_ns": stream_ns}))
        found = fired(lab, [*others, apart])
        assert {key: check.severity for key, check in found.items()} == {("cuda/S2048", "control_moved"): severity}
        assert "in the median record of the run" in found["cuda/S2048", "control_moved"].message


def test_a_moved_control_is_inconclusive_for_both_gates(lab: Lab) -> None:
    """Neither gate decides on a machine that changed by more than two runs differ."""
    run = lab.run(
        [lab.cell(S=S, alter=(TRAIN, {"value_ns": 66_000})) for S in (128, 2048)],
        [lab.check(alter=({"backend": "control:copy", "process": 2}, {"value_ns": 99_000}))],
    )
    assert run.invest.verdict == "INCONCLUSIVE" and "control_moved" in run.invest.reason
    assert run.accepts[0].verdict == "INCONCLUSIVE" and "control_moved" in run.accepts[0].reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"facts": {"bandwidth_bytes_per_s": ()}}, "not recorded: the copy bandwidth of 3 of 3 processes"),
        ({"facts": {"read_bandwidth_bytes_per_s": (4e12,)}}, "not recorded: the read-only bandwidth of 2 of 3 proc"),
        ({"drop": {"arm": "control:train"}}, "not recorded: the control:train"),
    ],
)
def test_a_missing_fact_blocks_on_a_gpu(lab: Lab, change: dict[str, object], said: str) -> None:
    """A rate or a control that is not there of every process blocks a cell, and so it does a kernel check."""
    found = fired(lab, [lab.cell(iters=12, **change)])
    assert {key: check.severity for key, check in found.items()} == {("sdpa/S2048", "fact_missing"): BLOCKING}
    assert found["sdpa/S2048", "fact_missing"].message.startswith(said)
    if "drop" in change:
        change = {"drop": {"backend": "control:train"}}
    assert set(fired(lab, [], [lab.check(**change)])) == {("check_cuda", "fact_missing")}


def test_a_cpu_has_no_machine_to_look_at(lab: Lab) -> None:
    """Its times decide nothing: there is no control, no bandwidth and no clock."""
    names = {check.name for check in lab.run([lab.cell(device="cpu")], [lab.check(device="cpu")]).checks}
    assert names.isdisjoint({"fact_missing", "control_moved", "throttled", "replicates_differ"})


def throttling(lab: Lab, clock: int, slower: float) -> list[Check]:
    """What fires on a cell in which one process has another clock, and takes so much longer."""
    cell = read_cell(lab.cell(iters=12, alter=({"process": 1}, {"sm_clock_mhz": clock})))
    factor = cell.rows["process"].map({0: 1.0, 1: slower, 2: 1.0})
    cell.rows["value_ns"] = (cell.rows["value_ns"] * factor).round().astype(int)
    return [check for check in throttled(cell, primary_rows(cell)) if check.fired]


@pytest.mark.parametrize(
    ("clock", "slower", "severity"),
    [
        (1500, 1.0, None),  # a clock that costs nothing
        (1980, 1.3, None),  # a slowdown without a clock: replicates_differ's business
        (1965, 1.3, None),  # one step of the clock
        (1900, 1.04, WARNING),
        (1500, 1.25, BLOCKING),
    ],
)
def test_throttling_is_a_lower_clock_together_with_a_slowdown(
    lab: Lab, clock: int, slower: float, severity: str | None
) -> None:
    """Neither alone is throttling; from 2 % on the process is named, from 10 % on nothing is decided."""
    found = throttling(lab, clock, slower)
    assert [check.severity for check in found] == ([severity] if severity else [])
    for check in found:
        assert check.observed == pytest.approx(slower - 1, abs=0.003)
        assert check.message.startswith("where its SM clock was below 1940 MHz, process 1 was ")


def test_a_steady_power_cap_is_honest(lab: Lab) -> None:
    """NVML's reasons alone say nothing: a GPU under a cap that keeps its clock times all alike."""
    capped = {"replicates": tuple(replicate(process, throttle_bits=0x4) for process in range(3))}
    path = lab.cell(iters=12, facts=capped, alter=({"device": "cuda"}, {"throttle_bits": 0x4, "sm_clock_mhz": 1410}))
    assert "throttled" not in {name for _, name in fired(lab, [path])}


def test_a_throttled_process_of_a_check_is_named(lab: Lab) -> None:
    """Its kernels are slower where its clock was lower, on every shape."""
    slow = ({"process": 2, "backend": "cuda"}, {"sm_clock_mhz": 1600, "value_ns": 33_000})
    found = fired(lab, [], [lab.check(alter=slow)])
    assert "MHz, process 2 was 10." in found["check_cuda", "throttled"].message


def test_without_clocks_nothing_is_said_of_throttling(lab: Lab) -> None:
    """Where NVML does not tell, there is no check."""
    run = lab.run([lab.cell(alter=({"device": "cuda"}, {"sm_clock_mhz": None}))])
    assert "throttled" not in {check.name for check in run.checks}


@pytest.mark.parametrize(("factor", "severity"), [(1.05, None), (1.2, WARNING), (1.6, BLOCKING)])
def test_a_slower_process_of_a_cell_is_named(lab: Lab, factor: float, severity: str | None) -> None:
    """A disturbed replicate warns from 10 % on and blocks from 50 %, as in a kernel check."""
    arm = {"process": 1, "arm": "win", "mode": "graph", "cache_state": "cold"}
    found = fired(lab, [lab.cell(iters=12, processes=5, alter=(arm, {"value_ns": round(42_125 * factor)}))])
    check = found.get(("sdpa/S2048", "replicates_differ"))
    assert (check.severity if check else None) == severity
    assert check is None or check.message.startswith("process 1 timed arm win ")


def test_a_record_without_any_control_is_told(lab: Lab) -> None:
    """Both workloads are named where neither was timed, and nothing is said of how they moved."""
    cell, check = lab.cell(iters=12), lab.check()
    for path in (cell, check):
        table = pq.read_table(path)
        key = "arm" if path == cell else "backend"
        pq.write_table(table.filter(pc.invert(pc.starts_with(table[key], "control:"))), path)
    found = fired(lab, [cell], [check])
    assert set(found) == {("sdpa/S2048", "fact_missing"), ("check_cuda", "fact_missing")}
    assert all("the control:train, the control:copy" in each.message for each in found.values())
