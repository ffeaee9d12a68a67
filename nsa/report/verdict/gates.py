"""The two gates: is a selection kernel worth building, is one good enough to ship (measurement, "The two gates")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nsa.config import CheckSettings, GateSettings
from nsa.errors import RecordError
from nsa.report.analysis.kernel import ShapeFigures, figures
from nsa.report.analysis.read import Record, cell_name
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import Row
from nsa.report.verdict.checks import BLOCKING, Check

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
    verdict: str  # ACCEPT, REJECT or NOT MEASURED
    reason: str  # one sentence
    shapes: tuple[ShapeVerdict, ...]
    fix: str | None = None  # what the user can do where the check did not run


def invest(
    baseline: str, targets: Sequence[int], rows: Sequence[Row], checks: Sequence[Check], settings: GateSettings
) -> Invest:
    """Decide on the selection share of the baseline: every target context must say the same.

    Args:
        targets: the contexts that decide.
        rows: summary rows of any backend; those of cells that may not be used have a status other than ok.
        checks: all checks; a blocking one that fired on a deciding cell leaves its context INCONCLUSIVE.
    """
    by_context = {row["S"]: row for row in rows if row["backend"] == baseline}
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
        claim, which = f"at least {percent(settings.invest['go'])}", "smallest lower"
    else:
        bound, S = max((share.high, S) for share, S in shares)
        claim, which = f"less than {percent(settings.invest['no_go'])}", "largest upper"
    reason = (
        f"Selection takes {claim} of the {baseline} step at every target context: "
        f"the {which} {percent(settings.confidence)} bound is {bound:.1f} % (S = {S})."
    )
    return Invest(verdicts.pop(), reason, baseline, contexts)


def context_verdict(
    baseline: str, S: int, row: Row | None, checks: Sequence[Check], settings: GateSettings
) -> ContextVerdict:
    """What the baseline's cell at S says; a fired blocking check and disagreeing shares come before the thresholds."""
    if row is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} has no record", None, None)
    if row["status"] != "ok":
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} is {status_words(row)}", None, None)
    share = Estimate.from_row(row, "sel_pct", row["processes"])
    loo = Estimate.from_row(row, "sel_loo_pct", row["processes"])
    if share is None or loo is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} has no selection share", share, loo)
    if row["device"] != "cuda":
        reason = "no CUDA device measured it, and CPU wall times decide nothing about a GPU kernel"
        return ContextVerdict(S, NOT_MEASURED, reason, share, loo)
    name = cell_name(baseline, S)
    blocked = [check for check in checks if check.fired and check.severity == BLOCKING and check.cell == name]
    go, no_go = 100 * settings.invest["go"], 100 * settings.invest["no_go"]
    shown = f"{share.value:.1f} % [{share.low:.1f}, {share.high:.1f}]"
    if blocked:
        reason = "blocked by " + ", ".join(f"{check.name} ({check.message})" for check in blocked)
        return ContextVerdict(S, INCONCLUSIVE, reason, share, loo)
    if not share.replicated:
        reason = f"too few replicates: one process gives {share.value:.1f} % no interval"
        return ContextVerdict(S, INCONCLUSIVE, reason, share, loo)
    points, allowed = abs(share.value - loo.value), 100 * settings.invest["max_disagreement"]
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


def accept(backend: str, record: Record | None, check: CheckSettings, settings: GateSettings) -> Accept:
    """Decide on one candidate: every shape of the grid must be correct and fast enough.

    Args:
        record: the candidate's kernel check; None when there is none.
        check: the grid and how many seeds each shape needs.
    """
    if record is None:
        return Accept(backend, NOT_MEASURED, f"{backend} has no kernel check record.", ())
    if record.status != "ok":
        words = status_words({"status": record.status, "reason": record.reason})
        return Accept(backend, NOT_MEASURED, f"{backend} is {words}.", (), record.fix)
    measured = figures(record, check, settings.accept, settings.confidence)
    verdicts = tuple(shape_verdict(shape, check, settings) for shape in measured)
    if record.device != "cuda":
        wrong = sum(verdict.correct is False for verdict in verdicts)
        right = sum(verdict.correct is True for verdict in verdicts)
        reason = (
            f"No CUDA device: nothing was timed; on the CPU {right} of {len(verdicts)} shapes are correct"
            f"{f', {wrong} are WRONG' if wrong else ''}."
        )
        return Accept(backend, NOT_MEASURED, reason, verdicts)
    for verdict, clause in ((REJECT, "fail"), (NOT_MEASURED, "are not decided")):
        found = [shape for shape in verdicts if shape.verdict == verdict]
        if found:
            named = "; ".join(f"{shape.figures.shape}: {shape.reason}" for shape in found[:NAMED])
            more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
            return Accept(
                backend, verdict, f"{len(found)} of {len(verdicts)} shapes {clause}: {named}{more}.", verdicts
            )
    slowest = min(verdicts, key=lambda shape: shape.figures.speedup.low if shape.figures.speedup else 0.0)
    bound = slowest.figures.speedup.low if slowest.figures.speedup else 0.0
    reason = (
        f"All {len(verdicts)} shapes are correct, and at least {bound:.3g} times as fast as the fastest correct packed "
        f"SDPA (smallest lower {percent(settings.confidence)} bound, {slowest.figures.shape})."
    )
    return Accept(backend, ACCEPT, reason, verdicts)


def shape_verdict(measured: ShapeFigures, check: CheckSettings, settings: GateSettings) -> ShapeVerdict:
    """What one shape says: wrong results reject it, whatever its speed."""
    result, speed, wanted = measured.correctness, measured.speedup, settings.accept["speedup"]
    failures = result.failures(settings.accept) if result else []
    if failures:
        return ShapeVerdict(measured, REJECT, ", ".join(failures), False)
    if result is None or result.seeds < check.seeds:
        seen = result.seeds if result else 0
        return ShapeVerdict(measured, NOT_MEASURED, f"{seen} of {check.seeds} seeds were checked", None)
    if measured.time_us is None:
        return ShapeVerdict(measured, NOT_MEASURED, "correct, not timed", True)
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


def status_words(row: Row) -> str:
    """How a reason names a record that may not be used."""
    status = row["status"]
    shown = status.upper() if status in ("stale", "invalid") else status
    return f"{shown} ({row['reason']})" if row.get("reason") else shown


def exit_status(gate_json: Path) -> tuple[int, str]:
    """The exit status of `nsa check` and the line that explains it.

    0: the invest gate says GO or NO-GO, no kernel is rejected or wrong, no blocking check fired.
    1: a kernel is rejected or gives wrong results, a blocking check fired, the invest gate is INCONCLUSIVE, something
       is slower than in the accepted run beyond the margin, or that run's file is broken.
    3: nothing is wrong, but the invest gate is NOT MEASURED.

    Raises:
        RecordError: the file is missing, is not JSON or was not written by the report.
    """
    try:
        gate = json.loads(gate_json.read_text())
    except OSError as error:
        raise RecordError(f"{gate_json}: cannot be read ({error.strerror}); run `snakemake` first") from error
    except ValueError as error:
        raise RecordError(f"{gate_json}: is not JSON ({error}); delete it and run `snakemake`") from error
    try:
        verdict = gate["invest"]["verdict"]
        rejected = [name for name, found in gate["accept"].items() if found["verdict"] == REJECT]
        wrong = [name for name, found in gate["accept"].items() if found["wrong_shapes"] and name not in rejected]
        blocking = [check for check in gate["anomalies"] if check["severity"] == BLOCKING]
        change = gate["comparison"]
        slower = list(change["regressions"]) if change["decides"] else []
        broken = [change["reason"]] if change["status"] == "invalid" else []
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{gate_json}: not a gate.json of this project ({error!r}); delete it and rerun") from error
    faults = [f"{name} is rejected" for name in rejected] + [f"{name} gives wrong results" for name in wrong]
    faults += [f"{check['name']} on {check['cell']}: {check['message']}" for check in blocking]
    faults += [*slower, *broken]
    if verdict == INCONCLUSIVE:
        faults.append(f"invest is {INCONCLUSIVE}: {gate['invest']['reason']}")
    if faults:
        return 1, "; ".join(faults)
    return (3 if verdict == NOT_MEASURED else 0), f"invest: {verdict}. {gate['invest']['reason']}"
