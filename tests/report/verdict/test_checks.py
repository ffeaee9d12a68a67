"""Each automatic check fires on its fault and on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nsa.records import parquet
from nsa.report.analysis.read import read_cell, read_check
from nsa.report.analysis.summary import summarise_cells, with_run_aa
from nsa.report.verdict.checks import (
    BLOCKING,
    CHECKS,
    WARNING,
    Check,
    aa_control,
    blocking_checks,
    record_checks,
    write,
)
from nsa.report.verdict.warnings import modes_gap, other_processes, warning_checks

if TYPE_CHECKING:
    from tests.report.conftest import Lab

READS = {"cmp": 127, "sel": 1024, "win": 512, "actual": 1663.0, "expected": 1663.0}


def checks_of(lab: Lab, **cell: Any) -> dict[str, Check]:
    """The checks of one cell by name."""
    read = read_cell(lab.cell(**cell), lab.stamps)
    row = with_run_aa(summarise_cells([read], 0.95).to_pylist(), 0.95)[0]
    return {check.name: check for check in [*blocking_checks(read, row), *warning_checks(read, row)]}


def fired(lab: Lab, **cell: Any) -> dict[str, str]:
    """The severities of the checks that fired on one cell, by name."""
    return {name: check.severity for name, check in checks_of(lab, **cell).items() if check.fired}


def test_a_sound_cell_fires_nothing(lab: Lab) -> None:
    """A check that cries on sound data is switched off by its readers; every check but the empty ones was made."""
    checks = checks_of(lab, iters=12)
    assert [check for check in checks.values() if check.fired] == []
    assert len(checks) == 18


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("reads_differ", {"facts": {"reads": {**READS, "actual": 1662.5}}}),
        ("backend_substituted", {"alter": ({"process": 1}, {"backend_resolved": "math", "reason": "guard"})}),
        ("routing_wrong", {"facts": {"routing_fault": "S = 9: chose blocks [1], expected [0]"}}),
        ("output_not_finite", {"facts": {"outputs_finite": False}}),
        ("skipped_part_launched", {"facts": {"unexpected_launches": {"none": ["kernel_sel"]}}}),
        ("skipped_part_launched", {"facts": {"launches": {"all": ["a", "b"], "all_without_sel": ["b", "a"]}}}),
        ("below_memory_floor", {"facts": {"bandwidth_bytes_per_s": 4e9}}),
        ("impossible_share", {"parts": {"sel": -0.005}}),
        ("impossible_share", {"parts": {"cmp": -0.08, "fixed": 0.1}}),
    ],
)
def test_a_blocking_fault_fires_its_check_alone(lab: Lab, name: str, cell: dict[str, Any]) -> None:
    """Each of these once led to a decision on noise, or hid which code had run."""
    assert fired(lab, iters=12, **cell) == {name: BLOCKING}


def test_aa_control_fires_when_the_same_arm_differs(lab: Lab) -> None:
    """A run that sees a difference where there is none is not decision-grade."""
    slower = ({"arm": "all_again", "mode": "graph", "cache_state": "cold"}, {"value_ns": 99_500})
    checks = checks_of(lab, alter=slower)
    assert checks["aa_control"].fired
    assert checks["aa_control"].observed == pytest.approx(99.5 / 96.125, rel=5e-3)
    assert "at 95 % confidence as the run's A/A controls are 1" in checks["aa_control"].message


def test_aa_control_blocks_at_the_confidence_of_the_whole_run(lab: Lab) -> None:
    """A plain interval beside 1 is what one sound cell of twenty has; the message must say which one blocked."""
    plain = {"aa_ratio": 1.01, "aa_ratio_lo": 1.001, "aa_ratio_hi": 1.019, "processes": 10}
    rows = [plain | {"device": "cuda", "device_name": "NVIDIA H200"}] * 8
    alone, among = (aa_control("sdpa/S128", with_run_aa(run, 0.95)[0], BLOCKING) for run in (rows[:1], rows))
    assert (alone.fired, among.fired) == (True, False)
    assert "at 99.38 % confidence as the run's A/A controls are 8" in among.message


def test_aa_control_says_nothing_of_one_process(lab: Lab) -> None:
    """Without an interval there is nothing that could exclude 1."""
    assert not checks_of(lab, processes=1)["aa_control"].fired


def test_reads_are_equal_up_to_the_rounding_of_an_average(lab: Lab) -> None:
    """Averages over ragged sequences are floats: 1/3 three ways must not block a verdict."""
    assert "reads_differ" not in fired(lab, facts={"reads": {**READS, "actual": 1663 * (1 + 1e-15)}})


def test_no_bandwidth_makes_no_floor(lab: Lab) -> None:
    """A floor of an unmeasured bandwidth could not fail."""
    assert "below_memory_floor" not in checks_of(lab, facts={"bandwidth_bytes_per_s": None})


def test_an_empty_compressed_branch_may_launch_nothing(lab: Lab) -> None:
    """Below S = l arm cmp has nothing to launch; that is no fault."""
    launches = {"cmp": ["gate"], "none": ["gate"]}
    assert "skipped_part_launched" in fired(lab, facts={"launches": launches})
    assert "skipped_part_launched" not in fired(lab, facts={"launches": launches, "reads": {**READS, "cmp": 0}})


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("spread", {"noise": 0.15}),
        ("clock_spread", {"alter": ({"process": 1}, {"sm_clock_mhz": 1500})}),
        ("throttling", {"alter": ({"process": 1}, {"throttle_bits": 0x4})}),
        ("other_processes", {"facts": {"other_processes": [17, 4242]}}),
        ("parts_do_not_add_up", {"parts": {"overlap": -0.012}}),
        ("selects_everything", {"S": 1024}),
        ("host_bound", {"alter": ({"mode": "eager"}, {"value_ns": 1_000_000})}),
        ("near_empty_graph", {"alter": ({"arm": "empty"}, {"value_ns": 33_500})}),
    ],
)
def test_a_warning_fires_on_its_cause(lab: Lab, name: str, cell: dict[str, Any]) -> None:
    """Warnings tell the reader why an interval is wide, or that a share says little."""
    assert fired(lab, iters=12, **cell).get(name) == WARNING


def test_idle_clocks_are_no_throttling(lab: Lab) -> None:
    """NVML sets bit 0 on an idle GPU and bit 1 under fixed clocks: neither slows a kernel."""
    assert "throttling" not in fired(lab, alter=({"process": 1}, {"throttle_bits": 0x3}))


def test_another_process_is_named_on_a_kernel_check_too(lab: Lab) -> None:
    """A neighbour on the GPU slows whichever kernel it meets; without its pid nobody can stop it."""
    shared = other_processes(read_check(lab.check(facts={"other_processes": [17, 4242]})))
    assert (shared.fired, shared.cell) == (True, "check_cuda")
    assert "17, 4242" in shared.message
    assert not other_processes(read_check(lab.check(facts={"other_processes": []}))).fired


@pytest.mark.parametrize("cell", [{"parts": {"overlap": -0.004}}, {"parts": {"overlap": -0.012}, "noise": 0.5}])
def test_parts_may_miss_the_total_by_little_or_by_chance(lab: Lab, cell: dict[str, Any]) -> None:
    """Parts overlap a little on every GPU; and what one process misses another may have too much."""
    assert "parts_do_not_add_up" not in fired(lab, **cell)


def test_trend_follows_the_position_inside_the_block(lab: Lab) -> None:
    """A GPU that warms up inside a block slows what comes last."""
    cell = read_cell(lab.cell(iters=12), lab.stamps)
    row = summarise_cells([cell], 0.95).to_pylist()[0]
    cell.rows["value_ns"] = (cell.rows["value_ns"] * (1 + 0.01 * cell.rows["order"])).astype("int64")
    trend = next(check for check in warning_checks(cell, row) if check.name == "trend")
    assert trend.fired
    assert trend.observed == pytest.approx(0.07, rel=0.1)  # eight arms, 1 % apiece


def test_noise_is_no_trend(lab: Lab) -> None:
    """A slope through a few noisy times is never 0; only one beyond chance is a trend."""
    trends = [checks_of(lab, S=S, noise=0.2, iters=1)["trend"] for S in range(2048, 2054)]
    assert max(trend.observed or 0.0 for trend in trends) > 0.02
    assert not any(trend.fired for trend in trends)


@pytest.mark.parametrize(
    ("values", "gap"),
    [([100.0] * 16 + [120.0] * 16, 20 / 110), ([100.0 + n for n in range(32)], 0.0), ([100.0] * 30 + [200.0] * 2, 0.0)],
)
def test_modes_gap_needs_two_clusters(values: list[float], gap: float) -> None:
    """A median between two modes is a time that no step takes; outliers and a plain spread are no second mode."""
    import numpy as np

    assert modes_gap(np.sort(np.array(values))) == pytest.approx(gap)


def test_bimodality_fires_on_two_clusters(lab: Lab) -> None:
    """Half of the blocks at another speed is a machine that switches between states."""
    cell = read_cell(lab.cell(iters=12), lab.stamps)
    row = summarise_cells([cell], 0.95).to_pylist()[0]
    cell.rows.loc[cell.rows["block"] == 1, "value_ns"] *= 2
    assert next(check for check in warning_checks(cell, row) if check.name == "bimodality").fired


def test_a_cpu_run_warns_of_its_spread_only(lab: Lab) -> None:
    """CPU times decide nothing: they must not block, and warnings about a GPU would be noise."""
    checks = checks_of(lab, device="cpu", noise=0.3, S=128, parts={"sel": -0.02})
    assert {check.name for check in checks.values() if check.severity == WARNING} >= {"spread", "aa_control"}
    assert {"selects_everything", "trend", "host_bound"}.isdisjoint(checks)
    assert not [check for check in checks.values() if check.fired and check.severity == BLOCKING]


def test_wrong_reads_block_on_a_cpu_too(lab: Lab) -> None:
    """Reads are no time: they are as wrong on a CPU as on a GPU."""
    assert fired(lab, device="cpu", facts={"reads": {**READS, "actual": 1.0}})["reads_differ"] == BLOCKING


@pytest.mark.parametrize(
    ("status", "expected"), [("invalid", [BLOCKING]), ("stale", [WARNING]), ("oom", []), ("ok", [])]
)
def test_record_checks_name_invalid_and_stale_records(status: str, expected: list[str]) -> None:
    """An unavailable backend is no anomaly; a record that cannot be read is."""
    assert [c.severity for c in record_checks("sdpa/S128", status, "why") if c.fired] == expected


def test_the_checks_table_keeps_what_did_not_fire(lab: Lab) -> None:
    """A check that is absent cannot be told from one that was never made."""
    checks = list(checks_of(lab).values())
    write(lab.root / "checks.parquet", checks)
    table, _ = parquet.read(lab.root / "checks.parquet", CHECKS)
    assert (table.num_rows, sum(table["fired"].to_pylist())) == (len(checks), 0)
