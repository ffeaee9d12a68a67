"""The packed SDPA variants' own table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.records.facts import LeftOut
from nsa.report.analysis.read import read_check
from nsa.report.page.packed_variants import packed_variants_table

if TYPE_CHECKING:
    from nsa.report.page.tables import Table
    from tests.report.conftest import Lab

SHAPE = {"value_dim": 64, "sel_count": 8}
NAMED = "N=256 h=4 D=64 Dv=64 n=8"


def table(lab: Lab, **check: object) -> Table:
    """The table of packed SDPA's own check."""
    return packed_variants_table(read_check(lab.check("sdpa", **check)), lab.config.check, lab.config.gates)


def test_every_variant_has_its_time_and_its_worst_error(lab: Lab) -> None:
    """A line per shape has the time and the error of each variant; one that is wrong says so."""
    found = table(lab, alter=({**SHAPE, "backend": "sdpa:varlen", "seed": 1}, {"oracle_error": 0.5}))
    variants = ("blocks", "gather", "index_select", "varlen")
    assert found.header[:5] == ("N", "h", "D", "Dv", "n")
    assert found.header[5:] == tuple(each for name in variants for each in (f"{name} µs", "oracle error"))
    first, second, *_ = found.rows
    assert first[:5] == ("256", "4", "64", "64", "8")
    assert (first[7][:2], first[8], first[11][:2]) == ("60", "2.0e-03", "90")
    assert first[12] == "oracle error 0.5 > 2 x 0.0019 of packed SDPA"
    assert second[12] == "2.0e-03"


def test_a_variant_that_refuses_a_shape_says_so(lab: Lab) -> None:
    """A refusal stands in the line of its shape; a variant that refuses all of them has a column, too."""
    left_out = [LeftOut(name="sdpa:varlen", shape=NAMED, reason="v: got Dv = 64")]
    found = table(lab, drop={**SHAPE, "backend": "sdpa:varlen"}, facts={"left_out": tuple(left_out)})
    assert found.rows[0][11:] == ("–", "refused")
    left_out = [LeftOut(name="sdpa:blocks", shape=NAMED, reason="n is odd")]
    found = table(lab, drop={"backend": "sdpa:blocks"}, facts={"left_out": tuple(left_out)})
    assert found.header[5:7] == ("blocks µs", "oracle error")
    assert found.rows[0][5:7] == ("–", "refused")
    assert found.rows[1][5:7] == ("–", "–")


def test_a_check_on_a_cpu_has_errors_and_no_times(lab: Lab) -> None:
    """Without a GPU every variant has its error."""
    assert table(lab, device="cpu").rows[0] == ("8", "4", "64", "64", "8", *("–", "2.0e-06") * 4)


def test_a_record_without_rows_gives_no_lines(lab: Lab) -> None:
    """A check that did not run has no table."""
    assert table(lab, status="unavailable").rows == ()
