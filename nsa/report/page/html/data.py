"""The figures that the page's plots are drawn of, taken from the same content as its tables."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nsa.report.analysis.ceilings import STEP_PARTS
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import CellSummary, ran
from nsa.report.history.series import Series
from nsa.report.page.content import Content
from nsa.report.page.history import described
from nsa.report.page.plots import parts_of
from nsa.report.page.tables import bracketed
from nsa.report.verdict.cores import CoreAccept
from nsa.report.verdict.gates import Accept
from nsa.report.verdict.warnings import parts_do_not_add_up


@dataclass(frozen=True)
class Part:
    """One part of one cell's bar; `start` and `ms` stack to the sum of the parts."""

    S: int
    backend: str
    part: str
    start: float
    ms: float
    text: str


@dataclass(frozen=True)
class Total:
    """The step of one cell as measured, or why there is none.

    Attributes:
        parts_ms: the sum of its parts where that is not the step, so that its bar is not read as one.
        blocked: whether a blocking check fired on it, so that its figures decide nothing.
    """

    S: int
    backend: str
    ms: float | None
    low: float | None
    high: float | None
    text: str
    parts_ms: float | None = None
    blocked: bool = False


@dataclass(frozen=True)
class Ceiling:
    """How many times as fast the baseline's step would be without a part."""

    S: int
    part: str
    value: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Bandwidth:
    """How much of the time of one kernel on one shape the memory needs for its selected K and V, in per cent."""

    backend: str
    shape: str
    rows: int
    percent: float


@dataclass(frozen=True)
class Dense:
    """How many times as fast as the fastest correct dense attention one decode core is on one shape."""

    backend: str
    shape: str
    value: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Remembered:
    """One measurement of the history that can be compared, or the reference itself, whose change is 0.

    Attributes:
        place: of its run among those that are drawn, from the oldest.
        change, low, high: of the time since the reference, in per cent.
        surely: slower or faster, where the whole interval says so.
    """

    series: str
    place: int
    change: float
    low: float | None
    high: float | None
    surely: str | None
    accepted: bool
    text: str


@dataclass(frozen=True)
class Plots:
    """All figures of the plots."""

    parts: tuple[Part, ...]
    totals: tuple[Total, ...]
    ceilings: tuple[Ceiling, ...]
    bandwidths: tuple[Bandwidth, ...]
    dense: tuple[Dense, ...]
    history: tuple[Remembered, ...]


def plots(content: Content) -> Plots:
    """The figures of all plots; a plot without figures has an empty tuple, and is not drawn."""
    return Plots(
        parts=tuple(parts(content.cells)),
        totals=tuple(totals(content.cells, {check.cell for check in content.fired if check.blocks})),
        ceilings=tuple(ceilings(content)),
        bandwidths=tuple(bandwidths(content.accepts)),
        dense=tuple(over_dense([found for found, _, _ in content.cores])),
        history=tuple(remembered(content.past.series)),
    )


def parts(cells: Sequence[CellSummary]) -> list[Part]:
    """The parts of each cell that ran, from the left of its bar to the right."""
    found = []
    for cell in ran(cells):
        start = 0.0
        for part, estimate in parts_of(cell.arms).items():
            width = max(estimate.value, 0.0)  # a marginal may be below 0 by chance
            found.append(Part(cell.S, cell.backend, part, start, width, f"{bracketed(estimate)} ms"))
            start += width
    return found


def totals(cells: Sequence[CellSummary], blocked: Collection[str]) -> list[Total]:
    """One for each cell, those without figures included; nothing where none ran.

    Args:
        blocked: the cells on which a blocking check fired.
    """
    if not ran(cells):
        return []
    found = []
    for each in sorted(cells, key=lambda each: each.S):
        if each.figures is None:
            found.append(Total(each.S, each.backend, None, None, None, each.cell.status))
            continue
        total = each.figures.arms.ms_total
        apart = parts_do_not_add_up(each.cell.name, each.figures).fired
        drawn = sum(max(part.value, 0.0) for part in parts_of(each.figures.arms).values())
        found.append(
            Total(
                each.S,
                each.backend,
                total.value,
                *bounds(total),
                f"{bracketed(total)} ms",
                drawn if apart else None,
                each.cell.name in blocked,
            )
        )
    return found


def ceilings(content: Content) -> list[Ceiling]:
    """Of the baseline's cells that a GPU measured."""
    return [
        Ceiling(cell.S, part, found.value, *bounds(found), f"{bracketed(found)} ×")
        for cell in ran(content.cells)
        if cell.backend == content.invest.baseline and cell.device.kind == "cuda"
        for part in STEP_PARTS
        if (found := cell.ceilings.get(part)) is not None
    ]


def bandwidths(accepts: Sequence[Accept]) -> list[Bandwidth]:
    """Of every candidate on every shape whose results are right and that was timed."""
    return [
        Bandwidth(accept.backend, str(figures.shape), figures.shape.rows, 100 * figures.floor_us / figures.time_us)
        for accept in accepts
        for shape in accept.shapes
        if shape.correct and (figures := shape.figures).time_us and figures.floor_us
    ]


def over_dense(cores: Sequence[CoreAccept]) -> list[Dense]:
    """Of every core on every shape whose results are right and that has a rival."""
    return [
        Dense(core.backend, str(figures.shape), speed.value, *bounds(speed), bracketed(speed))
        for core in cores
        for shape in core.shapes
        if shape.correct and (speed := (figures := shape.figures).speedup) is not None
    ]


def remembered(found: Sequence[Series]) -> list[Remembered]:
    """Every measurement of the history that is compared, and what it is compared with."""
    runs = sorted({point.measured.run_utc for each in found for point in each.points})
    drawn = []
    for each in found:
        for point in each.points:
            if point.change is None and point.measured is not each.reference:
                continue
            ratio = point.change.ratio if point.change else Estimate(1.0, 1.0, 1.0, len(point.measured.processes))
            low, high = (None if end is None else 100 * (end - 1) for end in bounds(ratio))
            text = "\n".join((f"{each.backend}, {each.where}", *described(each, point)))
            drawn.append(
                Remembered(
                    f"{each.backend}, {each.where.partition(', geometric')[0]}",
                    runs.index(point.measured.run_utc),
                    100 * (ratio.value - 1),
                    low,
                    high,
                    point.surely,
                    point.measured.accepted,
                    text,
                )
            )
    return drawn


def bounds(found: Estimate) -> tuple[float | None, float | None]:
    """The ends of an interval; None where one process bounds nothing."""
    finite = found.replicated and math.isfinite(found.low) and math.isfinite(found.high)
    return (found.low, found.high) if finite else (None, None)
