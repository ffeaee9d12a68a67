"""A card for each gate: the verdict, its sentence, what to do next, and its intervals against the thresholds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nsa.config import GateSettings
from nsa.report.analysis.core import core_name
from nsa.report.analysis.read import cell_name, check_name
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ran
from nsa.report.page.content import Content
from nsa.report.page.tables import bracketed
from nsa.report.verdict.cores import CoreAccept
from nsa.report.verdict.gates import Accept
from nsa.report.verdict.invest import Invest
from nsa.report.verdict.next_steps import after_accept, after_invest, slowest
from nsa.report.verdict.words import ACCEPT, GO, INCONCLUSIVE, NO_GO, NOT_MEASURED, REJECT

# Word, colour and shape say the same: a reader who does not see one of them has the others.
TONES = {
    GO: "good",
    ACCEPT: "good",
    NO_GO: "bad",
    REJECT: "bad",
    INCONCLUSIVE: "unsure",
    NOT_MEASURED: "none",
}
ROOM = 1.08  # of an axis beyond its largest figure


@dataclass(frozen=True)
class Interval:
    """One line of a card's axis; its places are in per cent of the axis' width.

    Attributes:
        label: what it is of.
        low, high: None where one process bounds nothing.
        text: the figure and its interval as the tables show it.
        others: figures beside it without intervals of their own, such as those of the other shapes.
    """

    label: str
    text: str
    value: float
    low: float | None
    high: float | None
    others: tuple[float, ...] = ()


@dataclass(frozen=True)
class Threshold:
    """A mark on the axis, in per cent of its width."""

    text: str
    at: float


@dataclass(frozen=True)
class Axis:
    """Intervals against thresholds, from 0."""

    what: str
    end: str  # the figure at its right end
    intervals: tuple[Interval, ...]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class Card:
    """What one gate says.

    Attributes:
        tone: good, bad, unsure or none: the class that gives the colour and the shape.
        more: a sentence that explains the verdict further.
    """

    anchor: str
    gate: str
    question: str
    verdict: str
    tone: str
    reason: str
    more: str | None
    next_step: str
    axis: Axis | None


def cards(content: Content) -> list[Card]:
    """The invest gate's card, then one for each candidate and for each decode core."""
    kernels = (_accept(found, content) for found in content.accepts)
    return [_invest(content), *kernels, *(_core(found, content) for found, _, _ in content.cores)]


def _invest(content: Content) -> Card:
    found = content.invest
    return Card(
        anchor="gate-invest",
        gate="Invest",
        question="Is a custom selection kernel worth building?",
        verdict=found.verdict,
        tone=TONES[found.verdict],
        reason=found.reason,
        more=found.next_part,
        next_step=after_invest(found, content.accepts, content.cells, content.fired, content.about, content.gates),
        axis=shares_axis(
            found,
            content.gates,
            any(cell.device.kind == "cuda" for cell in ran(content.cells)),
            {check.cell for check in content.fired if check.blocks},
        ),
    )


def _accept(found: Accept, content: Content) -> Card:
    wanted = content.gates.accept.speedup
    return Card(
        anchor=f"gate-accept-{found.backend}",
        gate=f"Accept {found.backend}",
        question="Is this kernel good enough to ship?",
        verdict=found.verdict,
        tone=TONES[found.verdict],
        reason=found.reason,
        more=None,
        next_step=after_accept(found, check_name(found.backend), wanted, content.fired, content.about),
        axis=speedup_axis(found, "times as fast as the fastest packed SDPA", wanted),
    )


def _core(found: CoreAccept, content: Content) -> Card:
    wanted = content.gates.core.speedup
    return Card(
        anchor=f"gate-core-{found.backend}",
        gate=f"Accept the core of {found.backend}",
        question="Is this decode core right, and no slower than dense attention?",
        verdict=found.verdict,
        tone=TONES[found.verdict],
        reason=found.reason,
        more=None,
        next_step=after_accept(found, core_name(found.backend), wanted, content.fired, content.about),
        axis=speedup_axis(found, "times as fast as the fastest dense attention", wanted),
    )


def shares_axis(found: Invest, gates: GateSettings, on_cuda: bool, blocked: Collection[str]) -> Axis | None:
    """The selection share at each target context against both thresholds; None where no share was measured.

    Args:
        blocked: the records on which a blocking check fired: their shares say so.
    """
    shares = [
        (f"S = {each.S}{' ✕ blocked' if cell_name(found.baseline, each.S) in blocked else ''}", each.share)
        for each in found.contexts
        if each.share is not None
    ]
    marks = {"NO-GO below": 100 * gates.invest.no_go, "GO from": 100 * gates.invest.go}
    what = "selection's share of the step (%)" if on_cuda else "selection's share on a CPU (%), which decides nothing"
    return axis(what, shares, marks, " %") if shares else None


def speedup_axis(found: Accept | CoreAccept, what: str, wanted: float) -> Axis | None:
    """The slowest shape's speedup against the threshold, beside those of the others; None where nothing was timed."""
    worst = slowest(found)
    if worst is None:
        return None
    others = [shape.figures.speedup.value for shape in found.shapes if shape.figures.speedup is not None]
    return axis(what + caveat(found), [("slowest shape", worst[1])], {"from": wanted}, " ×", others)


def caveat(found: Accept | CoreAccept) -> str:
    """Why a speedup beyond its threshold accepts nothing; empty where speed decides."""
    if found.wrong_shapes:
        return "; results are wrong, so no speed counts"
    return "; a check blocks it, so it decides nothing" if found.verdict == INCONCLUSIVE else ""


def axis(
    what: str,
    lines: Sequence[tuple[str, Estimate]],
    marks: dict[str, float],
    unit: str,
    others: Sequence[float] = (),
) -> Axis:
    """Figures with intervals and thresholds on one axis that begins at 0 and holds all of them."""
    bounds = [x for _, each in lines for x in (each.value, each.low, each.high) if math.isfinite(x)]
    end = ROOM * max(*bounds, *marks.values(), *others)

    def at(x: float) -> float:
        return round(100 * min(max(x, 0.0), end) / end, 2)

    return Axis(
        what=what,
        end=f"{end:.3g}",
        intervals=tuple(
            Interval(
                label,
                bracketed(each),
                at(each.value),
                at(each.low) if each.replicated else None,
                at(each.high) if each.replicated else None,
                tuple(map(at, others)),
            )
            for label, each in lines
        ),
        thresholds=tuple(Threshold(f"{word} {x:g}{unit}", at(x)) for word, x in marks.items()),
    )
