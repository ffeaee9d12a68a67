"""The figures of the plots are those of the cells, the checks and the tables."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from nsa.report.history.series import series
from nsa.report.history.store import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.report.conftest import Lab

PARTS = ["fixed", "cmp", "route", "sel", "win"]


def drawn(lab: Lab) -> tuple[dict[str, list[Mapping[str, float]]], Mapping[str, object]]:
    """What the page's plots are drawn of, and gate.json."""
    carried = re.search(r'<script type="application/json" id="plots">(.*?)</script>', lab.layout.html.read_text())
    return json.loads(carried[1]), json.loads(lab.layout.gate.read_text())


def test_bars_are_the_parts_of_their_cells(shown: Callable[[str], Lab]) -> None:
    """Each cell has its parts, stacked without a gap, and its total with the interval."""
    lab = shown("mixed")
    plots, gate = drawn(lab)
    for row in gate["decode"]:
        here = [bar for bar in plots["parts"] if (bar["S"], bar["backend"]) == (row["S"], row["backend"])]
        assert [bar["part"] for bar in here] == PARTS
        assert [bar["ms"] for bar in here] == [row[f"ms_{part}"] for part in PARTS]
        assert here[-1]["start"] == pytest.approx(sum(bar["ms"] for bar in here[:-1]))
        (total,) = (each for each in plots["totals"] if (each["S"], each["backend"]) == (row["S"], row["backend"]))
        assert [total[key] for key in ("ms", "low", "high")] == [
            row[key] for key in ("ms_total", "ms_total_lo", "ms_total_hi")
        ]


def test_parts_that_do_not_add_up_are_said_beside_their_step(shown: Callable[[str], Lab]) -> None:
    """A core's parts overlap: their sum, beyond the step, is carried, so that the bar is not read as the step."""
    lab = shown("mixed")
    plots, gate = drawn(lab)
    rows = {(row["S"], row["backend"]): row for row in gate["decode"]}
    for total in plots["totals"]:
        row = rows[total["S"], total["backend"]]
        parts = sum(row[f"ms_{part}"] for part in PARTS)
        assert total["parts_ms"] == (pytest.approx(parts) if total["backend"] == "fused" else None)
    assert parts > 1.1 * row["ms_total"]
    assert "where the bars say ≠, shares do not add up" in lab.layout.html.read_text()


def test_a_cell_without_figures_keeps_its_place_and_its_status(shown: Callable[[str], Lab]) -> None:
    """What failed or had no memory is marked where its bar would be."""
    lab = shown("broken")
    plots, _ = drawn(lab)
    missing = {(each["backend"], each["S"], each["text"]) for each in plots["totals"] if each["ms"] is None}
    assert {("sdpa", 2048, "oom"), ("cuda", 128, "failed"), ("triton", 2048, "oom")} <= missing


def test_a_cell_that_a_check_blocks_is_marked(shown: Callable[[str], Lab]) -> None:
    """Outputs that are not finite leave a cell its bar, and a mark that its figures decide nothing."""
    lab = shown("broken")
    plots, _ = drawn(lab)
    assert [(each["backend"], each["S"]) for each in plots["totals"] if each["blocked"]] == [("sdpa", 128)]
    assert "✕ blocked at S = 128: a blocking check" in re.sub(r"<.*?>", "", lab.layout.html.read_text())


def test_bandwidths_are_the_floor_over_the_time(shown: Callable[[str], Lab]) -> None:
    """Every right and timed shape of a kernel has its share of the roof; wrong ones have none."""
    lab = shown("mixed")
    plots, gate = drawn(lab)
    expected = {
        (name, 100 * shape["figures"]["floor_us"] / shape["figures"]["time_us"])
        for name, found in gate["accept"].items()
        for shape in found["shapes"]
        if shape["correct"]
    }
    assert {(each["backend"], each["percent"]) for each in plots["bandwidths"]} == expected


def test_cores_beside_dense_attention_are_those_of_their_check(shown: Callable[[str], Lab]) -> None:
    """Every shape of a core has its speedup over dense attention with the interval."""
    lab = shown("mixed")
    plots, gate = drawn(lab)
    shapes = gate["cores"]["fused"]["shapes"]
    expected = [tuple(shape["figures"]["speedup"][key] for key in ("value", "low", "high")) for shape in shapes]
    assert [(each["value"], each["low"], each["high"]) for each in plots["dense"]] == expected
    assert len(expected) > 1


def test_a_cpu_run_has_no_ceilings_and_no_bandwidths(shown: Callable[[str], Lab]) -> None:
    """Where nothing was measured on a GPU nothing of a GPU is drawn."""
    lab = shown("not-measured")
    plots, _ = drawn(lab)
    assert plots["ceilings"] == plots["bandwidths"] == plots["dense"] == []
    assert len(plots["parts"]) == 10


def test_the_history_is_drawn_of_what_it_says(shown: Callable[[str], Lab]) -> None:
    """Each measurement that is compared has its place, its change and its interval; the reference has no change."""
    lab = shown("mixed")
    plots, _ = drawn(lab)
    found = series(read(lab.history / "nvidia-synthetic.parquet")[1])
    compared = [point for each in found for point in each.points if point.change]
    moved = [each for each in plots["history"] if each["low"] != each["high"]]
    assert [each["change"] for each in moved] == [pytest.approx(100 * (p.change.ratio.value - 1)) for p in compared]
    assert [each["low"] for each in moved] == [pytest.approx(100 * (p.change.ratio.low - 1)) for p in compared]
    cuda = [each for each in plots["history"] if each["series"] == "cuda, S = 2048"]
    assert [(each["place"], each["surely"]) for each in cuda] == [(0, None), (1, "faster")]
    assert "▼ faster" in lab.layout.html.read_text() and "▼ faster" in lab.layout.report.read_text()


def test_a_history_of_one_run_is_a_sentence(shown: Callable[[str], Lab]) -> None:
    """Nothing is drawn of what has nothing beside it."""
    lab = shown("broken")
    plots, _ = drawn(lab)
    assert plots["history"] == []
    assert "has one run: from the second on, its values are drawn here" in lab.layout.html.read_text()
