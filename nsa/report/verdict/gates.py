"""The two gates: is a selection kernel worth building, is one good enough to ship (docs/method.md#the-two-gates)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa.config import CheckSettings, GateSettings
from nsa.records.facts import CheckFacts
from nsa.records.merge import Model
from nsa.report.analysis.corners import WRONG, Corner, corners
from nsa.report.analysis.kernel import ShapeFigures, Tolerance, figures
from nsa.report.analysis.read import Record
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import CellSummary
from nsa.report.verdict.checks import Check, blocking

GO, NO_GO, INCONCLUSIVE, NOT_MEASURED = "GO", "NO-GO", "INCONCLUSIVE", "NOT MEASURED"
ACCEPT, REJECT = "ACCEPT", "REJECT"
NAMED = 3  # failing shapes that a reason names; the report's table has them all


@dataclass(frozen=True)
class ContextVerdict:
    """What one target context says."""

    S: int
    verdict: str
    reason: str  # a clause
    share: Estimate | None  # sel_pct
    share_loo: Estimate | None  # sel_loo_pct


@dataclass(frozen=True)
class Invest:
    """Is a custom selection kernel worth building?"""

    verdict: str  # GO, NO-GO, INCONCLUSIVE or NOT MEASURED
    reason: str  # one sentence
    baseline: str
    contexts: tuple[ContextVerdict, ...]


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


def invest(
    baseline: str,
    targets: Sequence[int],
    cells: Sequence[CellSummary],
    checks: Sequence[Check],
    settings: GateSettings,
) -> Invest:
    """Decide on the selection share of the baseline: every target context must say the same.

    Args:
        targets: the contexts that decide.
        cells: of any backend.
        checks: all checks; a blocking one that fired on a deciding cell leaves its context INCONCLUSIVE.
    """
    by_context = {cell.S: cell for cell in cells if cell.backend == baseline}
    contexts = tuple(context_verdict(baseline, S, by_context.get(S), checks, settings) for S in targets)
    verdicts = {context.verdict for context in contexts}

    def sentence(verdict: str) -> str:
        return "; ".join(f"S = {c.S}: {c.reason}" for c in contexts if c.verdict == verdict) + "."

    if NOT_MEASURED in verdicts:
        missing = {context.reason for context in contexts if context.verdict == NOT_MEASURED}
        alike = verdicts == {NOT_MEASURED} and len(missing) == 1
        reason = f"At every target context: {missing.pop()}." if alike else sentence(NOT_MEASURED)
        return Invest(NOT_MEASURED, reason, baseline, contexts)
    reasons = []
    if verdicts >= {GO, NO_GO}:
        split = {v: ", ".join(str(c.S) for c in contexts if c.verdict == v) for v in (GO, NO_GO)}
        reasons.append(f"The contexts disagree: {GO} at S = {split[GO]}, {NO_GO} at S = {split[NO_GO]}.")
    if INCONCLUSIVE in verdicts:
        reasons.append(sentence(INCONCLUSIVE))
    if reasons:
        return Invest(INCONCLUSIVE, " ".join(reasons), baseline, contexts)
    shares = [(context.share, context.S) for context in contexts if context.share]
    if verdicts == {GO}:
        bound, S = min((share.low, S) for share, S in shares)
        claim, which = f"at least {percent(settings.invest.go)}", "smallest lower"
    else:
        bound, S = max((share.high, S) for share, S in shares)
        claim, which = f"less than {percent(settings.invest.no_go)}", "largest upper"
    reason = (
        f"Selection takes {claim} of the {baseline} step at every target context: "
        f"the {which} {percent(settings.confidence)} bound is {bound:.1f} % (S = {S})."
    )
    return Invest(verdicts.pop(), reason, baseline, contexts)


def context_verdict(
    baseline: str, S: int, cell: CellSummary | None, checks: Sequence[Check], settings: GateSettings
) -> ContextVerdict:
    """What the baseline's cell at S says; a fired blocking check and disagreeing shares come before the thresholds."""
    if cell is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} has no record", None, None)
    if cell.figures is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} is {outcome_words(cell.cell)}", None, None)
    share, loo = cell.figures.arms.sel_pct, cell.figures.arms.sel_loo_pct
    if cell.figures.device.kind != "cuda":
        reason = "no CUDA device measured it, and CPU wall times decide nothing about a GPU kernel"
        return ContextVerdict(S, NOT_MEASURED, reason, share, loo)
    blocked = blocking(checks, cell.cell.name)
    go, no_go = 100 * settings.invest.go, 100 * settings.invest.no_go
    shown = f"{share.value:.1f} % [{share.low:.1f}, {share.high:.1f}]"
    if blocked:
        return ContextVerdict(S, INCONCLUSIVE, blocked_by(blocked), share, loo)
    if not share.replicated:
        reason = f"too few replicates: one process gives {share.value:.1f} % no interval"
        return ContextVerdict(S, INCONCLUSIVE, reason, share, loo)
    points, allowed = abs(share.value - loo.value), 100 * settings.invest.max_disagreement
    if points > allowed:
        shown = f"{share.value:.1f} % and {loo.value:.1f} % of ms_total, more than {allowed:g} points apart"
        return ContextVerdict(S, INCONCLUSIVE, f"ms_sel and ms_sel_loo disagree: {shown}", share, loo)
    if share.low >= go:
        return ContextVerdict(S, GO, f"{shown} ≥ {go:g} %", share, loo)
    if share.high < no_go:
        return ContextVerdict(S, NO_GO, f"{shown} < {no_go:g} %", share, loo)
    shown += f" over {share.processes} processes"
    crossed = [f"{bound:g} %" for bound in (no_go, go) if share.low < bound <= share.high]
    if len(crossed) < 2 and no_go <= share.value < go:
        reason = f"borderline: {shown}, between {no_go:g} % and {go:g} %"
    else:
        reason = f"too few replicates: {shown} reaches across {' and '.join(crossed)}; more processes narrow it"
    return ContextVerdict(S, INCONCLUSIVE, reason, share, loo)


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
        reason = (
            f"No CUDA device: nothing was timed; on the CPU {right} of {len(verdicts)} shapes are correct"
            f"{f', {wrong} are WRONG' if wrong else ''}."
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
    slowest = min(verdicts, key=_bound)
    reason = (
        f"All {len(verdicts)} shapes are correct, and at least {_bound(slowest):.3g} times as fast as the fastest "
        f"correct packed SDPA (smallest lower {percent(settings.confidence)} bound, {slowest.figures.shape})."
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
