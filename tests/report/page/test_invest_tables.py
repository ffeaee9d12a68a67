"""The tables of the invest gate on synthetic records with known times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.config import GateSettings
from nsa.records.facts import LeftOut
from nsa.report.analysis.summary import flat
from nsa.report.page.invest_tables import next_table, shares_table

if TYPE_CHECKING:
    from tests.report.conftest import Lab

VARIANTS = {"varlen": 0.020, "blocks": 0.080}  # gather takes 0.040 ms of 0.096


def test_every_packing_has_its_share_and_the_fastest_decides(lab: Lab) -> None:
    """The lines are ordered by ms_total; the last one says what torch operators elsewhere would make of the share."""
    cells = lab.summaries([lab.cell(variants=VARIANTS, noise=0, parts={"overlap": 0.0})])
    table = shares_table(cells, "sdpa", GateSettings())
    assert [line[1] for line in table.rows] == [
        "varlen (fastest: decides)",
        "gather",
        "blocks",
        "varlen, other parts in torch operators",
    ]
    assert [line[3].partition(" ")[0] for line in table.rows] == ["25.6", "40.8", "57.9", "11.5"]
    assert [line[4] for line in table.rows] == ["INCONCLUSIVE", "GO", "GO", "–"]


def test_a_packing_that_was_left_out_is_named_with_its_reason(lab: Lab) -> None:
    """It has no figures and decides nothing, but nobody has to wonder where it is."""
    left = LeftOut(name="index_select", shape="S=2048", reason="its step differs from the cell's own by 0.3")
    cells = lab.summaries([lab.cell(variants=VARIANTS, noise=0, facts={"left_out": (left,)})])
    line = next(line for line in shares_table(cells, "sdpa", GateSettings()).rows if line[1] == "index_select")
    assert line[2:] == ("–", "–", "left out: its step differs from the cell's own by 0.3")


def test_the_exported_row_is_the_fastest_ones_and_names_it(lab: Lab) -> None:
    """The documented columns are the winner's: selection of 20 µs by varlen, not the cell's own of 40."""
    row = flat(lab.summaries([lab.cell(variants=VARIANTS, noise=0, parts={"overlap": 0.0})])[0])
    assert row["packed_variant"] == "varlen"
    assert row["ms_sel"] == pytest.approx(VARIANTS["varlen"]) and row["ms_sel_loo"] == pytest.approx(row["ms_sel"])
    assert row["ms_total"] == pytest.approx(0.078125)
    assert (row["ms_total_warm"], row["ms_eager"]) == pytest.approx((0.9 * 0.078125, 1.5 * 0.078125), rel=1e-4)
    assert flat(lab.summaries([lab.cell("cuda", noise=0)])[0])["packed_variant"] is None


def test_a_part_is_worth_what_the_step_would_be_without_it(lab: Lab) -> None:
    """Routing of 6 in 98 µs makes at best 98 / 92 times the speed."""
    cells = lab.summaries([lab.cell(noise=0, parts={"overlap": 0.0}), lab.cell("cuda", noise=0)])
    table = next_table(cells, "sdpa")
    assert table.header == ("S", "without fixed", "without cmp", "without route", "without sel", "without win")
    assert [figure.partition(" ")[0] for figure in table.rows[0]] == ["2048", "1.44", "1.11", "1.07", "1.69", "1.14"]


def test_a_cpu_says_nothing_of_what_a_gpu_could_win(lab: Lab) -> None:
    """Neither table has a line without a CUDA device."""
    cells = lab.summaries([lab.cell(device="cpu")])
    assert not shares_table(cells, "sdpa", GateSettings()).rows and not next_table(cells, "sdpa").rows
