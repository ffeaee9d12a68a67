"""The summary table: one row per (backend, S) with the guide's columns, their intervals and the sample counts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.report.analysis.read import PARTS, Cell, primary, read_cell, timed
from nsa.report.analysis.stats import Estimate, each_of, interval, log_interval, process_times, rescaled

Row = Mapping[str, Any]
ESTIMATES = (
    "ms_total",
    "ms_cmp",
    "ms_sel",
    "ms_win",
    "ms_route",
    "ms_fixed",
    "ms_sel_loo",  # leave one out: the most that any selection kernel can win
    "ms_interaction",
    "cmp_pct",
    "sel_pct",
    "win_pct",
    "sel_loo_pct",
    "aa_ratio",  # T(all again) / T(all)
)
GUIDE = ("ms_total", "ms_cmp", "ms_sel", "ms_win", "reads_actual", "reads_expected")

SUMMARY = pa.schema(
    [
        ("S", pa.int32()),
        ("backend", pa.string()),
        *((name, pa.float64()) for name in GUIDE),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("fix", pa.string()),
        *((name, pa.float64()) for name in ESTIMATES if name not in GUIDE),
        *((f"{name}_{end}", pa.float64()) for name in ESTIMATES for end in ("lo", "hi")),
        ("ms_total_warm", pa.float64()),  # CUDA graph, caches warm
        ("ms_eager", pa.float64()),  # wall time: what a host-bound user sees
        ("empty_ms", pa.float64()),  # an empty graph: the floor of the method
        *((f"reads_{part}", pa.float64()) for part in PARTS),
        ("bytes_read", pa.int64()),
        ("bandwidth_pct", pa.float64()),  # bytes_read over ms_total, of the measured bandwidth
        ("processes", pa.int32()),
        ("repetitions", pa.int32()),  # of arm all in its primary mode, over all processes
        *(column for column in schemas.CELL if column[0] != "S"),
    ]
)


def collect(cells: Sequence[Path], out: Path, confidence: float, about: Mapping[str, Any] | None = None) -> None:
    """Write the summary of some cells as one record; its facts hold each cell's facts, the confidence and `about`."""
    read = [read_cell(path) for path in cells]
    facts = {"stage": "summary", "confidence": confidence, "cells": {cell.name: dict(cell.facts) for cell in read}}
    facts |= about or {}
    parquet.write_table(out, summarise_cells(read, confidence), facts)


def summarise(cells: Sequence[Path], confidence: float) -> pa.Table:
    """One row per cell record, by backend and S; a cell that did not run has a status and a reason, no figures."""
    return summarise_cells([read_cell(path) for path in cells], confidence)


def summarise_cells(cells: Sequence[Cell], confidence: float) -> pa.Table:
    """The same for cells that are read already."""
    ordered = sorted(cells, key=lambda cell: (cell.backend, cell.S))
    rows = [{**blank(cell), **(figures(cell, confidence) if cell.status == "ok" else {})} for cell in ordered]
    return pa.table({name: [row.get(name) for row in rows] for name in SUMMARY.names}, schema=SUMMARY)


def blank(cell: Cell) -> dict[str, Any]:
    """The row of a cell without figures."""
    said = {"S": cell.S, "backend": cell.backend, "status": cell.status, "reason": cell.reason, "fix": cell.fix}
    return {**dict.fromkeys(SUMMARY.names), **said, "device": cell.device}


def figures(cell: Cell, confidence: float) -> dict[str, Any]:
    """The figures of one cell that ran: the definitions of measurement, "Arms"."""
    facts, weight = cell.facts, cell.facts["emit_weight"]
    values = timed(cell.rows, *primary(cell.device))
    times = process_times(values, weight)
    estimates = arm_estimates(times, confidence)
    columns: dict[str, Any] = {}
    for name, estimate in estimates.items():
        columns[name] = estimate.value
        columns[f"{name}_lo"] = estimate.low if estimate.replicated else None
        columns[f"{name}_hi"] = estimate.high if estimate.replicated else None
    reads, keys = facts["reads"], cell.rows.iloc[0]
    bandwidth = facts.get("bandwidth_bytes_per_s")
    seconds = estimates["ms_total"].value / 1e3
    return {
        **columns,
        "ms_total_warm": typical_ms(cell, "graph", "warm", weight),
        "ms_eager": typical_ms(cell, "eager", "warm", weight),
        "empty_ms": float(times["empty"].median()) if "empty" in times else None,
        **{f"reads_{key}": reads[key] for key in (*PARTS, "actual", "expected")},
        "bytes_read": facts["bytes_read"],
        "bandwidth_pct": 100 * facts["bytes_read"] / seconds / bandwidth if bandwidth else None,
        "processes": len(times),
        "repetitions": int((values["arm"] == "all").sum()),
        **{name: None if pd.isna(key := keys[name]) else key for name, _ in schemas.CELL if name != "S"},
    }


def arm_estimates(times: pd.DataFrame, confidence: float) -> dict[str, Estimate]:
    """The columns of measurement, "Arms", from T_p(arm) [process, arm] in ms."""
    arm = {str(name): column.to_numpy() for name, column in times.items()}
    total, none = arm["all"], arm["none"]
    marginals = {part: arm[part] - none for part in PARTS}
    route = arm["cmp_route"] - arm["cmp"]
    without = total - arm["all_without_sel"]
    signed = {
        **{f"ms_{part}": marginals[part] for part in PARTS},
        "ms_route": route,
        "ms_sel_loo": without,
        "ms_interaction": total - none - route - sum(marginals.values()),
        **{f"{part}_pct": 100 * marginals[part] / total for part in PARTS},
        "sel_loo_pct": 100 * without / total,
    }
    positive = {"ms_total": total, "ms_fixed": none, "aa_ratio": arm["all_again"] / total}
    return {name: interval(samples, confidence) for name, samples in signed.items()} | {
        name: log_interval(samples, confidence) for name, samples in positive.items()
    }


def typical_ms(cell: Cell, mode: str, cache_state: str, weight: float) -> float | None:
    """T(all) in another mode; None where it was not timed."""
    values = timed(cell.rows, mode, cache_state)
    times = process_times(values[values["arm"] == "all"], weight)
    return math.exp(times["all"].map(math.log).mean()) if "all" in times else None


def current_rows(cells: Sequence[Cell], summaries: Sequence[Path], confidence: float) -> list[dict[str, Any]]:
    """The summary row of every cell, its figures only where both the cell and the summary may be used.

    The rows are those of one run, so each has the A/A interval of `with_run_aa`, too.

    Args:
        cells: read with today's stamps.
        summaries: what `collect` wrote.
        confidence: today's; a summary of another one is stale.
    """
    found: dict[tuple[str, int], tuple[Row, str | None]] = {}
    faults = []
    for path in summaries:
        try:
            table, facts = parquet.read(path, SUMMARY)
        except RecordError as error:
            faults.append(str(error))
            continue
        for row in table.to_pylist():
            facts_of_cell = facts.get("cells", {}).get(f"{row['backend']}/S{row['S']}", {})
            current = facts.get("confidence") == confidence
            found[row["backend"], row["S"]] = row, canonical(facts_of_cell) if current else None
    rows = []
    for cell in sorted(cells, key=lambda cell: (cell.backend, cell.S)):
        row, facts_then = found.get((cell.backend, cell.S), (None, None))
        if cell.status != "ok":
            rows.append(blank(cell))
        elif row is None:
            reason = next((fault for fault in faults if f"decode_{cell.backend}." in fault), "no summary has the cell")
            rows.append(unused(cell, "invalid", reason))
        elif facts_then != canonical(cell.facts):
            rows.append(unused(cell, "stale", "its summary was made from another version of the cell or confidence"))
        else:
            rows.append(dict(row))
    return with_run_aa(rows, confidence)


def with_run_aa(rows: Sequence[Row], confidence: float) -> list[dict[str, Any]]:
    """The rows of a run with the A/A interval that blocks a cell, beside the plain one that the tables show.

    Of m sound cells, plain 95 % intervals would block one in 1 - 0.95**m of the runs; so all intervals of one model
    hold at once with the given confidence, whichever of its cards measured a cell.

    Args:
        rows: summary rows; those with an A/A interval get aa_cells (m), aa_confidence, aa_run_lo and aa_run_hi.
        confidence: of the rows' own intervals.
    """

    def device(row: Row) -> tuple[str | None, str | None]:
        return row["device"], row["device_name"]  # cards of one model share a run

    cells = Counter(device(row) for row in rows if row["aa_ratio_lo"] is not None)
    made = []
    for row in rows:
        aa: dict[str, Any] = dict.fromkeys(("aa_cells", "aa_confidence", "aa_run_lo", "aa_run_hi"))
        ratio = Estimate.from_row(row, "aa_ratio", row["processes"] or 0)
        if ratio is not None and ratio.replicated:
            together = each_of(cells[device(row)], confidence)
            wide = rescaled(ratio, confidence, together)
            aa = {
                "aa_cells": cells[device(row)],
                "aa_confidence": together,
                "aa_run_lo": wide.low,
                "aa_run_hi": wide.high,
            }
        made.append({**row, **aa})
    return made


def unused(cell: Cell, status: str, reason: str) -> dict[str, Any]:
    """The row of a good cell whose summary may not be used."""
    fix = f"run `snakemake results/decode_{cell.backend}.parquet`"
    return {**blank(cell), "status": status, "reason": reason, "fix": fix}


def canonical(facts: Mapping[str, Any]) -> str:
    """Facts as one comparable string, in which NaN equals NaN."""
    return json.dumps(dict(facts), sort_keys=True)
