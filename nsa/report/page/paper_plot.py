"""The figure of results/paper_table4.md: dense attention over a core at each S, beside what the paper expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nsa.report.analysis.core import CoreFigures
from nsa.report.page.drawing import context_axis, save

COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")  # Okabe and Ito's palette
MARKERS = ("o", "s", "^", "D", "v")


def draw(cores: Mapping[str, Sequence[CoreFigures]], expected: Mapping[int, float], path: Path) -> None:
    """Draw one panel for each backend and pair of widths, a line for each batch, its intervals, and the paper's line.

    Args:
        cores: the figures of each backend whose times count; without any the drawing says so.
        expected: the paper's ratio at each S.
        path: of the SVG.
    """
    from matplotlib.figure import Figure  # here: it takes a third of a second, and most commands draw nothing

    panels = {
        (backend, shape.head_dim, shape.value_dim): [each for each in figures if each.shape.head_dim == shape.head_dim]
        for backend, figures in cores.items()
        for shape in (found.shape for found in figures)
    }
    figure = Figure(figsize=(max(4.6, 4.2 * len(panels)), 3.8), layout="constrained")
    if not panels:
        figure.text(0.5, 0.5, "not measured", ha="center")
    places = figure.subplots(1, max(len(panels), 1), squeeze=False, sharey=True)[0]
    for axes, ((backend, D, Dv), found) in zip(places, panels.items(), strict=False):
        for place, batch in enumerate(sorted({each.shape.batch for each in found})):
            line = [each for each in found if each.shape.batch == batch and each.speedup is not None]
            ratios = [each.speedup for each in line if each.speedup is not None]
            spread = [
                [ratio.value - ratio.low if ratio.replicated else 0.0 for ratio in ratios],
                [ratio.high - ratio.value if ratio.replicated else 0.0 for ratio in ratios],
            ]
            axes.errorbar(
                [each.shape.context for each in line],
                [ratio.value for ratio in ratios],
                spread,
                marker=MARKERS[place % len(MARKERS)],
                color=COLOURS[place % len(COLOURS)],
                capsize=3,
                label=f"B = {batch}, measured",
            )
        axes.plot(list(expected), list(expected.values()), "k--", label="the paper's, in bytes")
        axes.axhline(1.0, color="gray", linewidth=0.8)
        context_axis(axes, (each.shape.context for each in found))
        axes.set_title(f"{backend}, D = {D}, Dv = {Dv}", fontsize=10)
    if panels:
        places[0].set_ylabel("fastest dense attention / core")
        places[0].set_ylim(bottom=0)
        places[0].legend(frameon=False, fontsize=8)
    save(figure, path)
