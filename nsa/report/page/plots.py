"""The figure of the report: where the time of a decode step goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.records import files
from nsa.report.analysis.summary import Row
from nsa.report.page.tables import ran

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {  # column: (label, colour); Okabe and Ito's palette, which colour-blind readers can tell apart
    "ms_fixed": ("fixed", "#999999"),
    "ms_cmp": ("cmp", "#56B4E9"),
    "ms_route": ("route", "#009E73"),
    "ms_sel": ("sel", "#D55E00"),
    "ms_win": ("win", "#F0E442"),
}


def decode_breakdown(rows: Sequence[Row], out: Path) -> bool:
    """Draw stacked bars of the parts in ms, per S and backend that ran, with ms_total and its interval over them.

    Returns:
        False, and no file is written, when nothing ran.
    """
    from matplotlib.figure import Figure  # here: it takes a third of a second, and most commands draw nothing

    bars = ran(rows)
    if not bars:
        return False
    figure = Figure(figsize=(max(6.4, 2.2 + 0.8 * len(bars)), 4.2), layout="constrained", dpi=150)
    draw_bars(figure, bars)
    with files.atomic(out) as temporary:
        figure.savefig(temporary, format="png")
    return True


def draw_bars(figure: Figure, bars: Sequence[Row]) -> None:
    """Draw the bars of the rows, at least one, into an empty figure."""
    positions = bar_positions(bars)
    axes = figure.add_subplot()
    bottoms = [0.0] * len(bars)
    for column, (label, colour) in PARTS.items():
        heights = [max(row[column], 0.0) for row in bars]  # a marginal may be below 0 within its noise
        axes.bar(positions, heights, 0.8, bottom=bottoms, color=colour, edgecolor="white", linewidth=0.5, label=label)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    totals = [row["ms_total"] for row in bars]
    errors = [
        [(row["ms_total"] - row["ms_total_lo"]) if row["ms_total_lo"] is not None else 0.0 for row in bars],
        [(row["ms_total_hi"] - row["ms_total"]) if row["ms_total_hi"] is not None else 0.0 for row in bars],
    ]
    axes.errorbar(positions, totals, errors, fmt="D", color="black", markersize=4, capsize=3, label="total, measured")
    axes.set_xticks(positions, [row["backend"] for row in bars], rotation=0 if len(bars) <= 10 else 45)
    groups = {S: [p for p, row in zip(positions, bars, strict=True) if row["S"] == S] for S in {r["S"] for r in bars}}
    contexts = axes.secondary_xaxis("bottom")
    contexts.set_xticks([sum(group) / len(group) for group in groups.values()], [f"\n\nS = {S}" for S in groups])
    contexts.tick_params(length=0)
    contexts.spines["bottom"].set_visible(False)
    axes.set_ylabel("time of one decode step (ms)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    names = ", ".join(dict.fromkeys(str(row["device_name"]) for row in bars))
    on_cpu = any(row["device"] != "cuda" for row in bars)
    axes.set_title(f"{names}: " + ("CPU wall time" if on_cpu else "CUDA graph, cold L2"), fontsize=10)
    figure.legend(loc="outside right upper", frameon=False)


def bar_positions(bars: Sequence[Row]) -> list[float]:
    """One place per bar, with a gap where S changes."""
    places = [0.0]
    for before, bar in pairwise(bars):
        places.append(places[-1] + (1.0 if bar["S"] == before["S"] else 1.8))
    return places
