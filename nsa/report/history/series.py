"""The measurements of one cell or check over time, each beside the one that they are compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from nsa.records.words import CONTROLS
from nsa.report.accepted.compare import NO_CONTROL
from nsa.report.accepted.keep import CHECK, DECODE, setting_differs
from nsa.report.accepted.relative import relative_change
from nsa.report.analysis.stats import Change, each_of
from nsa.report.history.measurement import CONFIDENCE, Measurement

LAST = 10  # measurements of a cell that are shown where nobody asks for another number
SURE = ("slower", "faster")  # what is said of a time that surely changed


@dataclass(frozen=True)
class Point:
    """One measurement of a series.

    Attributes:
        change: of its time over the reference's, relative to the control; None of the reference itself.
        reason: why there is none of another.
    """

    measured: Measurement
    change: Change | None = None
    reason: str | None = None

    @property
    def surely(self) -> str | None:
        """Slower or faster, where the whole interval says so."""
        return self.change.verdict if self.change is not None and self.change.verdict in SURE else None


@dataclass(frozen=True)
class Series:
    """One cell or check, oldest first.

    Attributes:
        where: "S = 1024", or over which shapes a time is the geometric mean.
        reference: what the others are compared with: the last accepted one, else the first, of those of the newest
            one's settings and not blocked; None where there is none.
    """

    kind: str
    backend: str
    where: str
    reference: Measurement | None
    points: tuple[Point, ...]


def series(history: Sequence[Measurement], last: int = LAST) -> list[Series]:
    """Every cell and check of a history: decode cells first, then kernel checks, then cores.

    The intervals of one run's cells and checks hold together, as in its report.

    Args:
        last: how many measurements of each are shown, beside those that were accepted and the reference.
    """
    ordered = sorted(history, key=lambda each: each.measured_utc)
    groups: dict[tuple[str, str, int | None], list[Measurement]] = {}
    for each in ordered:
        groups.setdefault(each.of, []).append(each)
    kinds = {DECODE: 0, CHECK: 1}
    names = sorted(groups, key=lambda of: (kinds.get(of[0], len(kinds)), of[1], of[2] or 0))
    share = each_of(max(1, len(names)), CONFIDENCE)
    return [_series(groups[name], share, last) for name in names]


def _series(found: Sequence[Measurement], confidence: float, last: int) -> Series:
    newest = found[-1]
    able = [each for each in found if each.blocked is None and differs(each, newest) is None]
    reference = next((each for each in reversed(able) if each.accepted), able[0] if able else None)
    shown = [
        each for place, each in enumerate(found) if place >= len(found) - last or each.accepted or each is reference
    ]
    points = tuple(_point(each, reference, confidence) for each in shown)
    return Series(newest.kind, newest.backend, where(newest), reference, points)


def _point(each: Measurement, reference: Measurement | None, confidence: float) -> Point:
    if each is reference:
        return Point(each)
    if each.blocked is not None:
        return Point(each, reason=f"blocked by {each.blocked}")
    if reference is None:
        return Point(each, reason="there is nothing to compare with")
    if reason := differs(*sorted((reference, each), key=lambda one: one.measured_utc)):
        return Point(each, reason=reason)
    control = (reference.control, each.control)
    if any(set(beside) != set(CONTROLS) for beside in control):
        return Point(each, reason=NO_CONTROL)
    return Point(each, relative_change(reference.times, each.times, control, confidence))


def differs(before: Measurement, now: Measurement) -> str | None:
    """Why two measurements are of different things; None where they are of the same."""
    if reason := setting_differs(now.kind, json.loads(before.settings), json.loads(now.settings)):
        return reason
    other = len(set(before.shapes) ^ set(now.shapes))
    return f"other config: {other} shapes are in one of the two grids only" if other else None


def where(measured: Measurement) -> str:
    """What a time is of, beside its backend."""
    if measured.kind == DECODE:
        return f"S = {measured.S}"
    what = "kernel check" if measured.kind == CHECK else "core check"
    return f"{what}, geometric mean of {len(measured.shapes)} shapes"
