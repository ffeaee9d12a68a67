"""Figures as text: digits, intervals and what is missing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from synthetic import ABOUT, OLD

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
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from tests.report.conftest import Lab


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
    """A figure has as many digits as were asked for, without an exponent."""
    assert significant(value) == text


def test_an_interval_has_the_decimals_of_its_value() -> None:
    """A figure and its bounds have the same decimals."""
    assert bracketed(Estimate(1.0003, 0.9996, 1.001, 3), 5) == "1.0003 [0.9996, 1.0010]"
    assert bracketed(Estimate(-0.00001, -0.2, 0.2, 3), 2) == "0.00 [-0.20, 0.20]"


def test_one_process_says_so() -> None:
    """A figure of one process says that it has no interval."""
    assert bracketed(Estimate(1.5, -math.inf, math.inf, 1)) == "1.50 (1 process)"
    assert bracketed(None) == "–"


def test_not_run_is_one_line_per_reason(lab: Lab) -> None:
    """Contexts that share a backend and a reason share a line; a stale cell says so in capitals."""
    cells = [lab.cell("cuda", S, status="unavailable") for S in (256, 128)]
    cells += [lab.cell("cuda", 512, said={"stamp": OLD}), lab.cell("sdpa", 128)]
    assert not_run(lab.summaries(cells)) == [
        f"`cuda` at S = 512: STALE (sources changed since it was measured). Fix: run `snakemake {cells[2]}`.",
        "`cuda` at S = 128, 256: unavailable (cuda is not here). Fix: run on a GPU.",
    ]


def test_anomalies_list_each_blocking_check_and_group_warnings() -> None:
    """Each blocking check has its line with its cell; warnings of one name and backend share one."""

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


def test_the_ceiling_is_amdahls(lab: Lab) -> None:
    """A share of 38 / 96 makes at best 96 / 58 times the speed, and the measured step is set beside it."""
    cells = [lab.cell("sdpa", 128, noise=0), lab.cell("cuda", 128, parts={"sel": 0.016}, noise=0)]
    table = ceiling_table(lab.summaries([*cells, lab.cell("fa2", 128, status="oom")]), "sdpa", ("sdpa", "cuda", "fa2"))
    assert table.header == ("S", "at best", "cuda measured")
    assert table.rows == (("128", "1.65 [1.64, 1.67]", "1.33"),)
    on_a_cpu = lab.summaries([lab.cell("sdpa", 128, device="cpu")])
    assert ceiling_table(on_a_cpu, "sdpa", ()).rows == ()


def test_a_core_is_not_set_beside_the_ceiling_as_a_selection_kernel(lab: Lab) -> None:
    """A decode core computes every branch, so its step may beat one with selection at no cost: its column says so."""
    cells = lab.summaries([lab.cell("sdpa", 128), lab.cell("fused", 128, parts={"sel": 0.001, "win": 0.001})])
    table = ceiling_table(cells, "sdpa", ("sdpa",))
    assert table.header == ("S", "at best", "fused (core) measured")
    (row,) = table.rows
    assert float(row[2]) > float(row[1].split()[0])


def test_provenance_shows_where_records_differ() -> None:
    """Records of two commits show both; what none of them says is left out, like the environment."""
    later = ABOUT.model_copy(update={"git_commit": "b"})
    table = provenance_table(provenance([later, ABOUT.model_copy(update={"git_commit": "a"})]))
    assert table.rows[0] == ("git_commit", "a … b (2 values)")
    assert [key for key, _ in table.rows] == ["git_commit", "git_dirty", "utc_time"]
