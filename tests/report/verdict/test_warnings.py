"""Each warning of a decode cell fires on its cause, and not on what is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import replicate

from nsa.report.analysis.read import read_cell, read_check
from nsa.report.analysis.summary import figures
from nsa.report.verdict.checks import Check
from nsa.report.verdict.warnings import modes_gap, other_processes, warning_checks
from nsa.report.verdict.words import WARNING

if TYPE_CHECKING:
    from nsa.report.analysis.read import Cell
    from tests.report.conftest import Lab


def warnings_of(cell: Cell) -> dict[str, Check]:
    """The warnings of one cell by name."""
    return {check.name: check for check in warning_checks(cell, figures(cell, 0.95))}


def made(lab: Lab, **cell: object) -> dict[str, Check]:
    """The warnings of a synthetic cell by name."""
    return warnings_of(read_cell(lab.cell(**cell)))


def replicates(**changes: object) -> dict[str, object]:
    """Three processes, of which the second differs."""
    return {"replicates": (replicate(0), replicate(1, **changes), replicate(2))}


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("spread", {"noise": 0.15}),
        ("clock_spread", {"alter": ({"process": 1}, {"sm_clock_mhz": 1500})}),
        ("clock_spread", {"facts": replicates(sm_clock_min_mhz=1500)}),
        ("other_processes", {"facts": {"other_processes": (17, 4242)}}),
        ("parts_do_not_add_up", {"parts": {"overlap": -0.012}}),
        ("selects_everything", {"S": 1024}),
        ("host_bound", {"alter": ({"mode": "eager"}, {"value_ns": 1_000_000})}),
        ("near_empty_graph", {"alter": ({"arm": "empty"}, {"value_ns": 33_500})}),
    ],
)
def test_a_warning_fires_on_its_cause(lab: Lab, name: str, cell: dict[str, object]) -> None:
    """A warning says why an interval is wide, or that a share says little."""
    check = made(lab, iters=12, **cell)[name]
    assert (check.fired, check.severity) == (True, WARNING)


def test_what_nvml_does_not_tell_makes_no_check(lab: Lab) -> None:
    """Without clocks and reasons there is nothing to say of them."""
    unknown = {"sm_clock_min_mhz": None, "sm_clock_max_mhz": None, "throttle_bits": None}
    silent = {"replicates": tuple(replicate(process, **unknown) for process in range(3))}
    blind = ({"device": "cuda"}, {"sm_clock_mhz": None, "throttle_bits": None})
    assert "clock_spread" not in made(lab, facts=silent, alter=blind)


def test_another_process_is_named_on_a_kernel_check_too(lab: Lab) -> None:
    """A neighbour on the GPU is named by its pid, on whichever record it was seen."""
    shared = other_processes(read_check(lab.check(facts={"other_processes": (17, 4242)})))
    assert (shared.fired, shared.cell) == (True, "check_cuda")
    assert "17, 4242" in shared.message
    assert not other_processes(read_check(lab.check())).fired


@pytest.mark.parametrize("cell", [{"parts": {"overlap": -0.004}}, {"parts": {"overlap": -0.012}, "noise": 0.5}])
def test_parts_may_miss_the_total_by_little_or_by_chance(lab: Lab, cell: dict[str, object]) -> None:
    """Parts that overlap a little, or miss the total by chance, are no anomaly."""
    assert not made(lab, **cell)["parts_do_not_add_up"].fired


def test_trend_follows_the_position_inside_the_block(lab: Lab) -> None:
    """Times that grow with the place in a block are a trend, of the size that they grow by."""
    cell = read_cell(lab.cell(iters=12))
    cell.rows["value_ns"] = (cell.rows["value_ns"] * (1 + 0.01 * cell.rows["order"])).astype("int64")
    trend = warnings_of(cell)["trend"]
    assert trend.fired
    assert trend.observed == pytest.approx(0.07, rel=0.1)  # eight arms, 1 % apiece


def test_chance_is_no_trend(lab: Lab) -> None:
    """A slope through a few noisy times is never 0; only one beyond chance is a trend."""
    trends = [made(lab, S=S, noise=0.2, iters=1)["trend"] for S in range(2048, 2054)]
    assert max(trend.observed or 0.0 for trend in trends) > 0.02
    assert not any(trend.fired for trend in trends)


@pytest.mark.parametrize(
    ("values", "gap"),
    [([100.0] * 16 + [120.0] * 16, 20 / 110), ([100.0 + n for n in range(32)], 0.0), ([100.0] * 30 + [200.0] * 2, 0.0)],
)
def test_modes_gap_needs_two_clusters(values: list[float], gap: float) -> None:
    """Two clusters have a gap; outliers and a plain spread have none."""
    assert modes_gap(np.sort(np.array(values))) == pytest.approx(gap)


def test_bimodality_fires_on_two_clusters(lab: Lab) -> None:
    """Half of the blocks at another speed is a machine that switches between states."""
    cell = read_cell(lab.cell(iters=12))
    cell.rows.loc[cell.rows["block"] == 1, "value_ns"] *= 2
    assert warnings_of(cell)["bimodality"].fired


def test_a_cpu_run_warns_of_its_spread_only(lab: Lab) -> None:
    """Warnings about a GPU's clocks, launches and verdict are not made on a CPU."""
    assert list(made(lab, device="cpu", noise=0.3, S=128)) == ["spread"]
