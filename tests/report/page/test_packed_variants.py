"""The packed SDPA variants' own table."""

from __future__ import annotations

import pandas as pd

from nsa.config import CheckSettings, GateSettings
from nsa.report.analysis.read import Record
from nsa.report.page.packed_variants import competition

GRID = CheckSettings(rows=(256,), heads_per_group=(4,), head_dim=(64,), value_dim=(64, 128), sel_count=(8,), seeds=1)


def row(variant: str, value_dim: int, **figures: float | None) -> dict:
    """One timed or judged row of a variant."""
    shape = {"rows": 256, "heads_per_group": 4, "head_dim": 64, "value_dim": value_dim, "sel_count": 8}
    return {"backend": f"sdpa:{variant}", **shape, "process": 0, "seed": 0, "value_ns": None, "fault": None, **figures}


def test_every_variant_has_its_time_and_its_worst_error() -> None:
    """Breaks if a slow or a wrong variant is hidden, and the winner with it proves nothing."""
    good = {"mae": 1e-5, "oracle_error": 2e-3, "sdpa_oracle_error": 2e-3, "has_result": True}
    rows = [
        row("gather", 64, value_ns=90_000, has_result=False),
        row("gather", 64, **good),
        row("varlen", 64, value_ns=70_000, has_result=False),
        row("varlen", 64, **{**good, "oracle_error": 0.5}),
        row("gather", 128, **good),
    ]
    table = competition(Record("sdpa", "ok", facts={"device": "cuda"}, rows=pd.DataFrame(rows)), GRID, GateSettings())
    assert table.header == ("N", "h", "D", "Dv", "n", "gather µs", "oracle error", "varlen µs", "oracle error")
    assert table.rows[0][:7] == ("256", "4", "64", "64", "8", "90.0", "2.0e-03")
    assert table.rows[0][7] == "70.0" and "oracle error 0.5 >" in table.rows[0][8]
    assert table.rows[1] == ("256", "4", "64", "128", "8", "–", "2.0e-03", "–", "–")


def test_a_record_without_rows_gives_no_lines() -> None:
    """Breaks if a check that did not run stops the report."""
    assert competition(Record("sdpa", "unavailable"), GRID, GateSettings()).rows == ()
