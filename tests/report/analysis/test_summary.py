"""The summary's columns from times that are known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.records import parquet
from nsa.report.analysis.read import read_cell
from nsa.report.analysis.summary import SUMMARY, collect, current_rows, summarise, with_run_aa

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

FIXED, CMP, ROUTE, SEL, WIN = 0.030, 0.010, 0.006, 0.040, 0.012  # ms, as the lab draws them
OVERLAP = -0.002  # what selection saves when all parts run
EMISSION = 0.002 / 16  # what emitting takes more, weighted by how often it happens
TOTAL = FIXED + CMP + ROUTE + SEL + WIN + OVERLAP + EMISSION


def test_columns_are_the_definitions_of_measurement(lab: Lab) -> None:
    """A wrong pair of arms in any difference changes a share, and with it the verdict."""
    row = summarise([lab.cell(noise=0)], 0.95).to_pylist()[0]
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
        "ms_total_warm": 0.9 * TOTAL,
        "ms_eager": 1.5 * TOTAL,
        "empty_ms": 0.0034,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=2e-6)  # times are whole nanoseconds
    assert (row["processes"], row["repetitions"]) == (3, 3 * 2 * 2 * 4)
    assert (row["reads_actual"], row["reads_sel"], row["device"], row["heads"]) == (1663, 1024, "cuda", 8)
    assert row["bandwidth_pct"] == pytest.approx(100 * 1663 * 256 / (TOTAL * 1e-3) / 4e12, rel=1e-3)


def test_guide_columns_come_first() -> None:
    """Users of the guide read the table by its columns."""
    guide = ["S", "backend", "ms_total", "ms_cmp", "ms_sel", "ms_win", "reads_actual", "reads_expected"]
    assert SUMMARY.names[:8] == guide


def test_intervals_span_the_processes_and_hold_the_value(lab: Lab) -> None:
    """Intervals over repetitions instead of processes would be far too narrow."""
    noise = 0.02
    row = summarise([lab.cell(noise=noise, iters=30)], 0.95).to_pylist()[0]
    assert row["ms_total_lo"] < row["ms_total"] < row["ms_total_hi"]
    assert (row["ms_total_hi"] - row["ms_total_lo"]) / row["ms_total"] > noise  # process effects, not 180 repetitions
    assert row["sel_pct_lo"] < row["sel_pct"] < row["sel_pct_hi"]


def test_one_process_has_figures_and_no_bounds(lab: Lab) -> None:
    """Null bounds are how the gate sees that there are too few replicates."""
    row = summarise([lab.cell(processes=1)], 0.95).to_pylist()[0]
    assert row["sel_pct"] is not None
    assert (row["sel_pct_lo"], row["sel_pct_hi"], row["aa_ratio_lo"]) == (None, None, None)


def test_a_cpu_cell_is_eager_wall_time(lab: Lab) -> None:
    """Without a GPU there is no graph to replay; the cell still has its row, marked cpu."""
    row = summarise([lab.cell(device="cpu", noise=0)], 0.95).to_pylist()[0]
    assert (row["device"], row["device_uuid"], row["empty_ms"], row["ms_total_warm"]) == ("cpu", None, None, None)
    assert row["ms_total"] == row["ms_eager"]


def test_a_cell_that_did_not_run_keeps_its_reason(lab: Lab) -> None:
    """A gap without a reason is what a silent fallback looks like."""
    cells = [
        lab.cell("cuda", 512),
        lab.cell("cuda", 128, status="oom", facts={"reason": "no memory"}),
    ]
    first, second = summarise(cells, 0.95).to_pylist()
    assert (first["S"], first["status"], first["reason"], first["ms_total"]) == (128, "oom", "no memory", None)
    assert (second["S"], second["status"]) == (512, "ok")


def test_a_broken_cell_is_a_row_of_its_own(lab: Lab) -> None:
    """INVALID is never averaged in: the good cell's figures are those without the broken one."""
    good, broken = lab.cell(S=128), lab.cell(S=256)
    alone = summarise([good], 0.95).to_pylist()
    broken.write_bytes(broken.read_bytes()[:1000])
    both = summarise([good, broken], 0.95).to_pylist()
    assert both[0] == alone[0]
    assert (both[1]["S"], both[1]["status"], both[1]["ms_total"]) == (256, "invalid", None)


def test_collect_writes_the_table_and_each_cells_facts(lab: Lab) -> None:
    """The report compares those facts with the cells to see a summary that is older than its cells."""
    out = lab.root / "decode_sdpa.parquet"
    collect([lab.cell(S=128), lab.cell(S=256)], out, 0.95)
    table, facts = parquet.read(out, SUMMARY)
    assert table["S"].to_pylist() == [128, 256]
    assert (facts["confidence"], facts["cells"]["sdpa/S128"]["emit_weight"]) == (0.95, 1 / 16)


def test_the_aa_interval_that_blocks_holds_for_all_cells_of_the_device() -> None:
    """Plain intervals block a third of the sound runs of 8 cells; another device or a cell without one does not count."""
    plain = {"processes": 10, "aa_ratio": 1.01, "aa_ratio_lo": 1.001, "aa_ratio_hi": 1.019, "device": "cuda"}
    here, there = plain | {"device_name": "GPU-0"}, plain | {"device_name": "GPU-1"}
    one_process = here | {"processes": 1, "aa_ratio_lo": None, "aa_ratio_hi": None}
    rows = with_run_aa([here, here, there, one_process, here | {"aa_ratio": None, "aa_ratio_lo": None}], 0.95)
    assert [row["aa_cells"] for row in rows] == [2, 2, 1, None, None]
    assert [row["aa_confidence"] for row in rows[:3]] == pytest.approx([0.975, 0.975, 0.95])
    assert rows[0]["aa_run_lo"] < 1 < plain["aa_ratio_lo"]  # type: ignore[operator]
    assert (rows[2]["aa_run_lo"], rows[2]["aa_run_hi"]) == pytest.approx((1.001, 1.019))
    assert {key: rows[0][key] for key in here} == here  # the table keeps the plain interval


def rows_today(lab: Lab, paths: list[Path], confidence: float = 0.95) -> list[tuple[str, float | None]]:
    cells = [read_cell(path, lab.stamps) for path in paths]
    rows = current_rows(cells, [lab.root / "decode_sdpa.parquet"], confidence)
    return [(row["status"], row["ms_total"]) for row in rows]


def test_a_stale_cell_loses_its_figures_in_the_report(lab: Lab) -> None:
    """The summary still holds them; the report must not."""
    paths = [lab.cell(S=128), lab.cell(S=256, facts={"stamp": {**lab.stamp, "sources": "old"}})]
    collect(paths, lab.root / "decode_sdpa.parquet", 0.95)
    (ok, total), stale = rows_today(lab, paths)
    assert (ok, stale) == ("ok", ("stale", None))
    assert total is not None


def test_a_summary_older_than_its_cell_is_stale(lab: Lab) -> None:
    """A cell measured again, or another confidence, makes the summary's figures those of something else."""
    paths = [lab.cell(S=128)]
    collect(paths, lab.root / "decode_sdpa.parquet", 0.95)
    assert rows_today(lab, paths)[0][0] == "ok"
    assert rows_today(lab, paths, confidence=0.99) == [("stale", None)]
    lab.cell(S=128, facts={"bytes_read": 1})
    assert rows_today(lab, paths) == [("stale", None)]


def test_a_cell_without_a_readable_summary_is_invalid(lab: Lab) -> None:
    """The message of the broken summary is the reason, so that the user knows which file to fix."""
    paths = [lab.cell(S=128)]
    cells = [read_cell(path, lab.stamps) for path in paths]
    (lab.root / "decode_sdpa.parquet").write_text("no parquet")
    row = current_rows(cells, [lab.root / "decode_sdpa.parquet"], 0.95)[0]
    assert (row["status"], "not a readable Parquet" in row["reason"]) == ("invalid", True)
    assert current_rows(cells, [], 0.95)[0]["reason"] == "no summary has the cell"
