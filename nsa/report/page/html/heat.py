"""The speedup of each candidate over the acceptance grid, as a table of coloured cells."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.report.page.tables import MISSING, bracketed, significant
from nsa.report.verdict.gates import Accept, ShapeVerdict
from nsa.report.verdict.words import ACCEPT, REJECT

STEPS = (2.0, 4.0)  # times as fast, where the colour becomes darker
NAMED = 3  # the shapes that are named under the table


@dataclass(frozen=True)
class Square:
    """One shape of the grid.

    Attributes:
        tone: reject, wrong, missing, or fast0 to fast2 for a shape that is accepted: the class that gives the colour.
        title: all that the shape says.
    """

    text: str
    tone: str
    title: str


@dataclass(frozen=True)
class HeatMap:
    """Rows are N and h, columns D, Dv and n, each with a square where the grid has the shape.

    Attributes:
        worst: the slowest shapes with their speedups, in a sentence.
    """

    backend: str
    columns: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]
    worst: str


def heat_map(found: Accept) -> HeatMap | None:
    """The squares of one candidate; None where no shape was timed."""
    if all(shape.figures.time_us is None for shape in found.shapes):
        return None
    by_place: dict[tuple[tuple[int, int], tuple[int, int, int]], ShapeVerdict] = {}
    for shape in found.shapes:
        at = shape.figures.shape
        by_place[(at.rows, at.heads_per_group), (at.head_dim, at.value_dim, at.sel_count)] = shape
    rows = sorted({row for row, _ in by_place})
    columns = sorted({column for _, column in by_place})
    return HeatMap(
        backend=found.backend,
        columns=tuple(tuple(map(str, column)) for column in columns),
        rows=tuple(
            (f"N={N} h={h}", tuple(square(by_place.get(((N, h), column))) for column in columns)) for N, h in rows
        ),
        worst=worst_of(found),
    )


def square(shape: ShapeVerdict | None) -> Square | None:
    """What one shape says; None where the grid has no such shape."""
    if shape is None:
        return None
    title = f"{shape.figures.shape}: {shape.verdict}, {shape.reason}"
    speed = shape.figures.speedup
    if shape.correct is False:
        return Square("wrong", "wrong", title)
    if speed is None:
        return Square(MISSING, "missing", title)
    tone = {ACCEPT: f"fast{sum(speed.value >= step for step in STEPS)}", REJECT: "reject"}.get(shape.verdict, "missing")
    return Square(significant(speed.value), tone, title)


def worst_of(found: Accept) -> str:
    """The shapes with the smallest speedups, by name."""
    timed = [shape.figures for shape in found.shapes if shape.figures.speedup is not None]
    timed.sort(key=lambda figures: figures.speedup.low if figures.speedup else 0.0)
    named = "; ".join(f"{figures.shape}: {bracketed(figures.speedup)} ×" for figures in timed[:NAMED])
    return f"Slowest: {named}." if named else "No shape has a speedup."
