"""The figure of the report: where the time of a decode step goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.records import files
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ArmFigures, CellFigures, CellSummary, ran
from nsa.report.verdict.warnings import parts_do_not_add_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {  # Okabe and Ito's palette, which colour-blind readers can tell apart
    "fixed": "#999999",
    "cmp": "#56B4E9",
    "route": "#009E73",
    "sel": "#D55E00",
    "win": "#F0E442",
}


FORMATS = ("png", "svg")
PALE = 0.35  # of a colour


def decode_breakdown(cells: Sequence[CellSummary], folder: Path) -> None:
    """Draw stacked bars of the parts in ms, per S and backend that ran, with ms_total and its interval over them.

    It is written as decode_breakdown.png and .svg, for pages that are not the report's own; nothing where nothing ran.
    """
    from matplotlib.figure import Figure  # here: it takes a third of a second, and most commands draw nothing

    bars = ran(cells)
    if not bars:
        return
    figure = Figure(figsize=(max(6.4, 2.2 + 0.8 * len(bars)), 4.2), layout="constrained", dpi=150)
    draw_bars(figure, bars)
    for kind in FORMATS:
        with files.atomic(folder / f"decode_breakdown.{kind}") as temporary:
            figure.savefig(temporary, format=kind)


def parts_of(arms: ArmFigures) -> dict[str, Estimate]:
    """The parts of a step by their labels, from the bottom of a bar to its top."""
    times = (arms.ms_fixed, arms.ms_cmp, arms.ms_route, arms.ms_sel, arms.ms_win)
    return dict(zip(COLOURS, times, strict=True))


def draw_bars(figure: Figure, bars: Sequence[CellFigures]) -> None:
    """Draw the bars of the cells, at least one, into an empty figure; those whose parts do not add up are pale."""
    from matplotlib.patches import Patch

    apart = [parts_do_not_add_up(bar.backend, bar).fired for bar in bars]
    positions = bar_positions(bars)
    axes = figure.add_subplot()
    bottoms = [0.0] * len(bars)
    for label, colour in COLOURS.items():
        heights = [max(parts_of(bar.arms)[label].value, 0.0) for bar in bars]  # a marginal may be below 0 by chance
        axes.bar(
            positions,
            heights,
            0.8,
            bottom=bottoms,
            color=[(colour, PALE if each else 1.0) for each in apart],
            edgecolor="white",
            linewidth=0.5,
        )
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    totals = [bar.arms.ms_total for bar in bars]
    errors = [
        [total.value - total.low if total.replicated else 0.0 for total in totals],
        [total.high - total.value if total.replicated else 0.0 for total in totals],
    ]
    values = [total.value for total in totals]
    measured = axes.errorbar(
        positions, values, errors, fmt="D", color="black", markersize=4, capsize=3, label="total, measured"
    )
    names = [f"{bar.backend} ≠" if each else bar.backend for bar, each in zip(bars, apart, strict=True)]
    axes.set_xticks(positions, names, rotation=0 if len(bars) <= 10 else 45)
    groups = {S: [p for p, bar in zip(positions, bars, strict=True) if bar.S == S] for S in {bar.S for bar in bars}}
    contexts = axes.secondary_xaxis("bottom")
    contexts.set_xticks([sum(group) / len(group) for group in groups.values()], [f"\n\nS = {S}" for S in groups])
    contexts.tick_params(length=0)
    contexts.spines["bottom"].set_visible(False)
    axes.set_ylabel("time of one decode step (ms)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    devices = ", ".join(dict.fromkeys(bar.device.name for bar in bars))
    on_cpu = any(bar.device.kind != "cuda" for bar in bars)
    title = f"{devices}: {'CPU wall time' if on_cpu else 'CUDA graph, cold L2'}"
    if any(apart):
        title += "\n≠: the parts do not add up to the step, which is the mark alone"
    axes.set_title(title, fontsize=10)
    patches = [Patch(color=colour, label=label) for label, colour in COLOURS.items()]
    figure.legend(handles=[*patches, measured], loc="outside right upper", frameon=False)


def bar_positions(bars: Sequence[CellFigures]) -> list[float]:
    """One place per bar, with a gap where S changes."""
    places = [0.0]
    for before, bar in pairwise(bars):
        places.append(places[-1] + (1.0 if bar.S == before.S else 1.8))
    return places
