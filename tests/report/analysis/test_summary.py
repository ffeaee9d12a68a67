"""The figures of a cell from times that are known exactly, and the flat table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import STAMP

from nsa.records import parquet
from nsa.records.made import SummaryHeader
from nsa.report.analysis.read import read_cell
from nsa.report.analysis.summary import SUMMARY, CellFigures, collect, figures, flat, ran, summarise

if TYPE_CHECKING:
    from pathlib import Path

    from nsa.records.words import Scalar
    from tests.report.conftest import Lab

FIXED, CMP, ROUTE, SEL, WIN = 0.030, 0.010, 0.006, 0.040, 0.012  # ms, as the lab draws them
OVERLAP = -0.002  # what selection saves when all parts run
EMISSION = 0.002 / 16  # what emitting takes more, weighted by how often it happens
TOTAL = FIXED + CMP + ROUTE + SEL + WIN + OVERLAP + EMISSION


def of(path: Path) -> CellFigures:
    """The figures of one cell."""
    return figures(read_cell(path), 0.95)


def row(path: Path) -> dict[str, Scalar]:
    """A cell as a row of the table."""
    return flat(summarise([read_cell(path)], 0.95)[0])


def test_figures_are_the_definitions_of_measurement(lab: Lab) -> None:
    """Every marginal, share and ratio is the difference of the arms that docs/decode_cell.md#arms names."""
    found = of(lab.cell(noise=0))
    parts = {"cmp": CMP, "sel": SEL, "win": WIN}
    expected = {
        "ms_total": TOTAL,
        "ms_fixed": FIXED + EMISSION,  # every arm pays the emission
        **{f"ms_{part}": ms for part, ms in parts.items()},
        "ms_route": ROUTE,
        "ms_sel_loo": SEL + OVERLAP,
        "ms_interaction": OVERLAP,
        **{f"{part}_pct": 100 * ms / TOTAL for part, ms in parts.items()},
        "sel_loo_pct": 100 * (SEL + OVERLAP) / TOTAL,
        "aa_ratio": 1,
    }
    arms = {name: estimate.value for name, estimate in vars(found.arms).items()}
    assert arms == pytest.approx(expected, abs=2e-6)  # times are whole nanoseconds
    others = (found.ms_total_warm, found.ms_eager, found.empty_ms)
    assert others == pytest.approx((0.9 * TOTAL, 1.5 * TOTAL, 0.0034), abs=2e-6)
    assert (found.processes, found.repetitions) == (3, 3 * 2 * 2 * 4)
    assert (found.reads.actual, found.reads.sel, found.device.kind, found.geometry.heads) == (1663, 1024, "cuda", 8)
    assert found.bandwidth_pct == pytest.approx(100 * 1663 * 256 / (TOTAL * 1e-3) / 4e12, rel=1e-3)


def test_the_bandwidth_is_the_mean_over_the_processes(lab: Lab) -> None:
    """Each process measures the bandwidth; the share is of their mean."""
    plain, wide = (of(lab.cell(noise=0, facts={"bandwidth_bytes_per_s": b})) for b in ((4e12,) * 3, (2e12, 4e12, 6e12)))
    assert wide.bandwidth_pct == pytest.approx(plain.bandwidth_pct)
    assert of(lab.cell(facts={"bandwidth_bytes_per_s": ()})).bandwidth_pct is None


def test_the_table_begins_with_the_guides_columns() -> None:
    """The guide's columns come first, in its order."""
    guide = ["S", "backend", "ms_total", "ms_cmp", "ms_sel", "ms_win", "reads_actual", "reads_expected"]
    assert SUMMARY.names[:8] == guide


def test_a_row_of_the_table_holds_the_figures(lab: Lab) -> None:
    """Estimates become a value and two bounds; the reads, the layer and the device have columns of their own."""
    path = lab.cell(noise=0.01)
    found, made = of(path), row(path)
    assert list(made) == SUMMARY.names
    assert (made["ms_total"], made["ms_total_lo"]) == (found.arms.ms_total.value, found.arms.ms_total.low)
    assert (made["sel_pct_hi"], made["status"], made["reason"]) == (found.arms.sel_pct.high, "ok", None)
    assert (made["reads_win"], made["window"], made["device_name"]) == (512, 512, "NVIDIA Synthetic")
    assert (made["S"], made["dtype"], made["device"], made["device_uuid"]) == (2048, "bfloat16", "cuda", "GPU-0")


def test_intervals_span_the_processes_and_hold_the_value(lab: Lab) -> None:
    """Intervals are over the processes, whose effects are larger than those of 180 repetitions."""
    noise = 0.02
    arms = of(lab.cell(noise=noise, iters=30)).arms
    assert arms.ms_total.low < arms.ms_total.value < arms.ms_total.high
    assert (arms.ms_total.high - arms.ms_total.low) / arms.ms_total.value > noise
    assert arms.sel_pct.low < arms.sel_pct.value < arms.sel_pct.high


def test_one_process_has_figures_and_no_bounds(lab: Lab) -> None:
    """One replicate bounds nothing: its bounds are null in the table."""
    path = lab.cell(processes=1)
    assert not of(path).arms.sel_pct.replicated
    made = row(path)
    assert made["sel_pct"] is not None
    assert (made["sel_pct_lo"], made["sel_pct_hi"], made["aa_ratio_lo"]) == (None, None, None)


def test_a_cpu_cell_is_eager_wall_time(lab: Lab) -> None:
    """Without a GPU there is no graph to replay; the cell still has its figures, marked cpu."""
    path = lab.cell(device="cpu", noise=0)
    found = of(path)
    assert (found.device.kind, found.device.uuid, found.empty_ms, found.ms_total_warm) == ("cpu", None, None, None)
    assert found.arms.ms_total.value == pytest.approx(found.ms_eager)
    assert row(path)["device"] == "cpu"


def test_a_cell_that_did_not_run_keeps_its_reason(lab: Lab) -> None:
    """A cell without figures has a row with its status, reason, fix and device."""
    cells = [read_cell(lab.cell("cuda", 512)), read_cell(lab.cell("cuda", 128, status="oom"))]
    summaries = summarise(cells, 0.95)
    first, second = (flat(each) for each in summaries)
    assert (first["S"], first["status"], first["reason"], first["ms_total"]) == (128, "oom", "cuda is not here", None)
    assert (first["fix"], first["device"], second["S"], second["status"]) == ("run on a GPU", "cuda", 512, "ok")
    assert [found.S for found in ran(summaries)] == [512]


def test_a_broken_cell_is_a_row_of_its_own(lab: Lab) -> None:
    """An INVALID cell changes no other cell's figures."""
    good, broken = lab.cell(S=128), lab.cell(S=256)
    alone = row(good)
    broken.write_bytes(broken.read_bytes()[:1000])
    both = [flat(each) for each in summarise([read_cell(good), read_cell(broken)], 0.95)]
    assert both[0] == alone
    assert (both[1]["S"], both[1]["status"], both[1]["ms_total"]) == (256, "invalid", None)


def test_collect_writes_the_table_and_each_cells_facts(lab: Lab) -> None:
    """The table's header holds the facts of the cells that ran, the confidence and the stamp."""
    out = lab.layout.summary("sdpa")
    collect([lab.cell(S=128), lab.cell(S=256), lab.cell(S=512, status="oom")], out, 0.95, STAMP)
    table, header = parquet.read(out, SummaryHeader, SUMMARY)
    assert table["S"].to_pylist() == [128, 256, 512]
    assert (list(header.cells), header.confidence, header.stamp) == (["sdpa/S128", "sdpa/S256"], 0.95, STAMP)
    assert header.cells["sdpa/S128"].emit_weight == 1 / 16
