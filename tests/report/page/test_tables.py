"""Figures as text: digits, intervals and what is missing."""

from __future__ import annotations

import math

import pytest

from nsa.report.analysis.stats import Estimate
from nsa.report.page.tables import (
    anomalies,
    bracketed,
    ceiling_table,
    not_run,
    provenance,
    provenance_table,
    significant,
)
from nsa.report.verdict.checks import BLOCKING, WARNING, Check


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0012345, "0.00123"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (0.0, "0.00"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_significant_has_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    """More digits than were measured are marketing; an exponent in a table of ms is misread."""
    assert significant(value) == text


def test_an_interval_has_the_decimals_of_its_value() -> None:
    """[0.9995, 1.001] hides how symmetric the interval is."""
    assert bracketed(Estimate(1.0003, 0.9996, 1.001, 3), 5) == "1.0003 [0.9996, 1.0010]"
    assert bracketed(Estimate(-0.00001, -0.2, 0.2, 3), 2) == "0.00 [-0.20, 0.20]"


def test_one_process_says_so() -> None:
    """A figure without an interval must not look like one whose interval was left out."""
    assert bracketed(Estimate(1.5, -math.inf, math.inf, 1)) == "1.50 (1 process)"
    assert bracketed(None) == "–"


def cell(backend: str, S: int, status: str = "ok", **columns: object) -> dict[str, object]:
    return {"backend": backend, "S": S, "status": status, "reason": "r", "fix": "m", "device": "cuda", **columns}


def test_not_run_is_one_line_per_reason() -> None:
    """Four contexts without a GPU are one fact, not four."""
    rows = [
        cell("cuda", 256, "unavailable"),
        cell("cuda", 128, "unavailable"),
        cell("cuda", 512, "stale"),
        cell("sdpa", 1),
    ]
    assert not_run(rows) == [
        "`cuda` at S = 512: STALE (r). Fix: m.",
        "`cuda` at S = 128, 256: unavailable (r). Fix: m.",
    ]


def test_anomalies_list_each_blocking_check_and_group_warnings() -> None:
    """A blocking fault must not drown in warnings, and its cell must be named."""

    def check(severity: str, name: str, S: int, observed: float, fired: bool = True) -> Check:
        return Check(name, severity, f"sdpa/S{S}", observed, 0.0, f"saw {observed}", fired)

    checks = [
        check(WARNING, "spread", 128, 0.03),
        check(WARNING, "spread", 256, 0.05),
        check(BLOCKING, "reads_differ", 256, 1.0),
        check(BLOCKING, "aa_control", 128, 2.0, fired=False),
    ]
    assert anomalies(checks) == [
        "**blocking** `reads_differ` on sdpa/S256: saw 1.0.",
        "warning `spread` on sdpa at S = 128, 256: saw 0.05 (S = 256).",
    ]


def test_the_ceiling_is_amdahls() -> None:
    """A share of 50 % makes at best twice the speed, and the measured step is set beside it."""
    half = {"sel_loo_pct": 50.0, "sel_loo_pct_lo": 20.0, "sel_loo_pct_hi": 60.0, "processes": 3}
    rows = [cell("sdpa", 128, ms_total=3.0, **half), cell("cuda", 128, ms_total=2.0), cell("fa2", 128, "oom")]
    table = ceiling_table(rows, "sdpa")
    assert (table.header, table.rows) == (("S", "at best", "cuda measured"), (("128", "2.00 [1.25, 2.50]", "1.50"),))


def test_provenance_shows_where_records_differ() -> None:
    """Records of two commits in one report must be seen."""
    table = provenance_table(provenance([{"git_commit": "b", "x": None}, {"git_commit": "a", "environment": {}}]))
    assert table.rows == (("git_commit", "a … b (2 values)"),)
