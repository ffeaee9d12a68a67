"""The accept gate: is a kernel good enough to ship (docs/verdicts.md#the-two-gates)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa.config import CheckSettings, GateSettings
from nsa.records.facts import CheckFacts
from nsa.records.merge import Model
from nsa.report.analysis.corners import WRONG, Corner, corners
from nsa.report.analysis.kernel import ShapeFigures, Tolerance, figures
from nsa.report.analysis.read import Record
from nsa.report.verdict.checks import Check, blocking
from nsa.report.verdict.words import ACCEPT, INCONCLUSIVE, NOT_MEASURED, REJECT

NAMED = 3  # failing shapes that a reason names; the report's table has them all


@dataclass(frozen=True)
class ShapeVerdict:
    """What one shape of the grid says about a kernel."""

    figures: ShapeFigures
    verdict: str  # ACCEPT, REJECT or NOT MEASURED
    reason: str  # a clause
    correct: bool | None  # None when too few seeds gave a result


@dataclass(frozen=True)
class Accept:
    """Is this kernel good enough to ship?"""

    backend: str
    verdict: str  # ACCEPT, REJECT, INCONCLUSIVE or NOT MEASURED
    reason: str  # one sentence
    shapes: tuple[ShapeVerdict, ...]
    fix: str | None = None  # what the user can do where the check did not run
    status: str | None = None  # of its record; None where there is none
    corners: tuple[Corner, ...] = ()

    @property
    def wrong_shapes(self) -> list[str]:
        """The shapes and corner cases on which the results are wrong."""
        shapes = [str(shape.figures.shape) for shape in self.shapes if shape.correct is False]
        return shapes + [f"corner case {corner.case}" for corner in self.corners if corner.status == WRONG]


def accept(
    backend: str,
    record: Record[CheckFacts] | None,
    checks: Sequence[Check],
    check: CheckSettings,
    settings: GateSettings,
) -> Accept:
    """Decide on one candidate: every shape of the grid must be correct and fast enough.

    A blocking check on its record leaves the candidate INCONCLUSIVE: the times say nothing. Wrong results reject it.

    Args:
        record: the candidate's kernel check; None when there is none.
        checks: all checks.
        check: the grid and how many seeds each shape needs.
    """
    if record is None:
        return Accept(backend, NOT_MEASURED, f"{backend} has no kernel check record.", ())
    if not record.ok:
        reason = f"{backend} is {outcome_words(record)}."
        return Accept(backend, NOT_MEASURED, reason, (), record.fix, record.status)
    verdicts = tuple(shape_verdict(shape, check, settings) for shape in figures(record, check, settings))
    cases = corners(record, Tolerance.of(settings.accept))
    wrong_cases = [case for case in cases if case.status == WRONG]
    if not record.on_cuda:
        wrong = sum(verdict.correct is False for verdict in verdicts)
        right = sum(verdict.correct is True for verdict in verdicts)
        reason = f"No CUDA device: nothing was timed; on the CPU {right} of {len(verdicts)} shapes are correct."
        if wrong or wrong_cases:
            reason = (
                "Its speed is not measured, as there is no CUDA device. Its results are WRONG on the CPU, so that no "
                f"speed would make it good enough: {right} of {len(verdicts)} shapes are correct, and {wrong} wrong."
            )
        return Accept(backend, NOT_MEASURED, " ".join([reason, *_wrong(wrong_cases, cases)]), verdicts, corners=cases)
    rejected = [shape for shape in verdicts if shape.verdict == REJECT]
    undecided = [shape for shape in verdicts if shape.verdict == NOT_MEASURED]
    blocked = blocking(checks, record.name)
    if wrong_cases or (rejected and (not blocked or any(shape.correct is False for shape in rejected))):
        failing = [_named(rejected, len(verdicts), "fail")] if rejected else []
        return Accept(backend, REJECT, " ".join([*failing, *_wrong(wrong_cases, cases)]), verdicts, corners=cases)
    if undecided:
        reason = _named(undecided, len(verdicts), "are not decided")
        return Accept(backend, NOT_MEASURED, reason, verdicts, corners=cases)
    if blocked:
        reason = f"The kernel check is {blocked_by(blocked)}."
        return Accept(backend, INCONCLUSIVE, reason, verdicts, corners=cases)
    worst = min(verdicts, key=_bound)
    reason = (
        f"All {len(verdicts)} shapes are correct, and at least {_bound(worst):.3g} times as fast as the fastest "
        f"correct packed SDPA (smallest lower {percent(settings.confidence)} bound, {worst.figures.shape})."
    )
    return Accept(backend, ACCEPT, reason, verdicts, corners=cases)


def _named(found: Sequence[ShapeVerdict], of: int, clause: str) -> str:
    """How many shapes say something, and the first few of them with their reasons."""
    named = "; ".join(f"{shape.figures.shape}: {shape.reason}" for shape in found[:NAMED])
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{len(found)} of {of} shapes {clause}: {named}{more}."


def _wrong(found: Sequence[Corner], cases: Sequence[Corner]) -> list[str]:
    """A sentence on the corner cases that fail; none where none does."""
    if not found:
        return []
    named = "; ".join(f"{case.case}: {case.reason}" for case in found[:NAMED])
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"{len(found)} of {len(cases)} corner cases fail: {named}{more}."]


def _bound(shape: ShapeVerdict) -> float:
    """The lower bound of a shape's speedup."""
    return shape.figures.speedup.low if shape.figures.speedup else 0.0


def shape_verdict(measured: ShapeFigures, check: CheckSettings, settings: GateSettings) -> ShapeVerdict:
    """What one shape says: wrong results reject it, whatever its speed."""
    result, speed, wanted = measured.correctness, measured.speedup, settings.accept.speedup
    failures = result.failures(Tolerance.of(settings.accept)) if result else []
    if failures:
        return ShapeVerdict(measured, REJECT, ", ".join(failures), False)
    if result is None or result.seeds < check.seeds:
        seen = result.seeds if result else 0
        return ShapeVerdict(measured, NOT_MEASURED, f"{seen} of {check.seeds} seeds were checked", None)
    if measured.time_us is None:
        return ShapeVerdict(measured, NOT_MEASURED, "correct, not timed", True)
    if measured.too_fast:
        reason = (
            f"{measured.time_us:.3g} µs, and this memory needs {measured.floor_us:.3g} for its selected K and V alone"
        )
        return ShapeVerdict(measured, REJECT, f"faster than it can read: {reason}", False)
    if speed is None:
        excluded = f" (not correct: {', '.join(measured.excluded)})" if measured.excluded else ""
        return ShapeVerdict(measured, NOT_MEASURED, f"no correct packed SDPA variant was timed{excluded}", True)
    if not speed.replicated:
        return ShapeVerdict(measured, NOT_MEASURED, f"too few replicates: one process, speedup {speed.value:.3g}", True)
    shown = f"speedup {speed.value:.3g} [{speed.low:.3g}, {speed.high:.3g}] over {measured.winner}"
    if speed.low >= wanted:
        return ShapeVerdict(measured, ACCEPT, shown, True)
    return ShapeVerdict(measured, REJECT, f"{shown}, lower bound < {wanted:g}", True)


def percent(share: float) -> str:
    """A share as per cent."""
    return f"{100 * share:g} %"


def outcome_words(record: Record[Model]) -> str:
    """How a reason names a record that may not be used."""
    status = record.status
    shown = status.upper() if status in ("stale", "invalid") else status
    return f"{shown} ({record.reason})" if record.reason else shown


def blocked_by(checks: Sequence[Check]) -> str:
    """Which checks block something, with what they saw."""
    return "blocked by " + ", ".join(f"{check.name} ({check.message})" for check in checks)
