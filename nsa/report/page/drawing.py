"""What the drawings of decode cores share: the axis of S, and a file whose text is that of its figures alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.records import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def context_axis(axes: Axes, contexts: Iterable[int]) -> None:
    """S on a logarithmic axis, a tick for each."""
    known = sorted(set(contexts))
    axes.set_xscale("log", base=2)
    axes.set_xticks(known, [f"{S // 1024}k" if S % 1024 == 0 else str(S) for S in known])
    axes.set_xlabel("S, tokens in the cache")
    axes.grid(linewidth=0.4, alpha=0.6)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG without the date, so that the same figures give the same text."""
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
