"""The figure of results/core_curve.md: a core's time over S, a line for each B, beside the memory floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nsa.report.analysis.core import CoreFigures
from nsa.report.page.drawing import context_axis, save

DARKEST, PALEST = 0.0, 0.75  # of cividis, which all kinds of colour vision tell apart; its yellow is too pale on white
APART = 1.2  # what the heights of two labels differ by at least, as a ratio


def draw(cores: Mapping[str, Sequence[CoreFigures]], path: Path) -> None:
    """Draw one panel for each backend, both axes logarithmic; each line has its B beside its end, and its floor dashed.

    Args:
        cores: the figures of each backend whose times count; without any the drawing says so.
        path: of the SVG.
    """
    from matplotlib import colormaps  # here: it takes a third of a second, and most commands draw nothing
    from matplotlib.figure import Figure

    panels = {backend: found for backend, found in cores.items() if found}
    figure = Figure(figsize=(max(6.4, 6.0 * len(panels)), 5.2), layout="constrained")
    if not panels:
        figure.text(0.5, 0.5, "not measured", ha="center")
    places = figure.subplots(1, max(len(panels), 1), squeeze=False, sharey=True)[0]
    for axes, (backend, found) in zip(places, panels.items(), strict=False):
        batches, height = sorted({each.shape.batch for each in found}), 0.0
        for place, batch in enumerate(batches):
            colour = colormaps["cividis"](DARKEST + (PALEST - DARKEST) * place / max(len(batches) - 1, 1))
            line = [each for each in found if each.shape.batch == batch]
            contexts = [each.shape.context for each in line]
            times = [each.time_us.value for each in line if each.time_us is not None]
            axes.plot(contexts, times, marker="o", markersize=4, color=colour)
            axes.plot(contexts, [each.floor_us for each in line if each.floor_us is not None], "--", color=colour)
            height = max(times[-1], APART * height)  # lines may end at the same point
            axes.annotate(
                f"B = {batch}",
                (contexts[-1], height),
                xytext=(6, 0),
                textcoords="offset points",
                color=colour,
                fontsize=8,
                va="center",
                annotation_clip=False,
            )
        axes.set_yscale("log")
        context_axis(axes, (each.shape.context for each in found))
        axes.margins(x=0.12)
        shape = found[0].shape
        about = f"D = {shape.head_dim}, Dv = {shape.value_dim}; dashed: the memory floor"
        axes.set_title(f"{backend}, {about}", fontsize=10)
    if panels:
        places[0].set_ylabel("µs of one call")
    save(figure, path)
