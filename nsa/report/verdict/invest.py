"""The invest gate: is a custom selection kernel worth building (docs/verdicts.md#the-two-gates)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa.config import GateSettings
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ArmFigures, CellFigures, CellSummary
from nsa.report.verdict.checks import Check, blocking
from nsa.report.verdict.gates import blocked_by, outcome_words, percent
from nsa.report.verdict.words import GO, INCONCLUSIVE, NO_GO, NOT_MEASURED

PART_NAMES = {
    "fixed": "fixed work",
    "cmp": "the compressed branch",
    "route": "routing",
    "sel": "selection",
    "win": "the window",
}


@dataclass(frozen=True)
class ContextVerdict:
    """What one target context says."""

    S: int
    verdict: str
    reason: str  # a clause
    share: Estimate | None  # sel_pct, of the fastest variant
    share_loo: Estimate | None  # sel_loo_pct
    variant: str | None = None  # the fastest correct packing, where the baseline has several


@dataclass(frozen=True)
class Invest:
    """Is a custom selection kernel worth building?"""

    verdict: str  # GO, NO-GO, INCONCLUSIVE or NOT MEASURED
    reason: str  # one sentence
    baseline: str
    contexts: tuple[ContextVerdict, ...]
    next_part: str | None = None  # which part of the step is the largest, and what it could win, in one sentence


def invest(
    baseline: str,
    targets: Sequence[int],
    cells: Sequence[CellSummary],
    checks: Sequence[Check],
    settings: GateSettings,
    unused_gpu: str | None = None,
) -> Invest:
    """Decide on the selection share of the baseline: every target context must say the same.

    Args:
        targets: the contexts that decide.
        cells: of any backend.
        checks: all checks; a blocking one that fired on a deciding cell leaves its context INCONCLUSIVE.
        unused_gpu: a GPU of this machine that torch cannot use, and why (Environment.unused_gpu).
    """
    by_context = {cell.S: cell for cell in cells if cell.backend == baseline}
    deciding = [by_context[S] for S in targets if S in by_context]
    largest = largest_part(baseline, [each.figures for each in deciding if not blocking(checks, each.cell.name)])
    contexts = tuple(context_verdict(baseline, S, by_context.get(S), checks, settings, unused_gpu) for S in targets)
    verdicts = {context.verdict for context in contexts}

    def sentence(verdict: str) -> str:
        saying: dict[str, list[str]] = {}  # the contexts of each reason
        for context in contexts:
            if context.verdict == verdict:
                saying.setdefault(context.reason, []).append(str(context.S))
        return "; ".join(f"S = {', '.join(at)}: {reason}" for reason, at in saying.items()) + "."

    if NOT_MEASURED in verdicts:
        missing = {context.reason for context in contexts if context.verdict == NOT_MEASURED}
        alike = verdicts == {NOT_MEASURED} and len(missing) == 1
        reason = f"At every target context: {missing.pop()}." if alike else sentence(NOT_MEASURED)
        return Invest(NOT_MEASURED, reason, baseline, contexts, largest)
    reasons = []
    if verdicts >= {GO, NO_GO}:
        split = {v: ", ".join(str(c.S) for c in contexts if c.verdict == v) for v in (GO, NO_GO)}
        reasons.append(f"The contexts disagree: {GO} at S = {split[GO]}, {NO_GO} at S = {split[NO_GO]}.")
    if INCONCLUSIVE in verdicts:
        reasons.append(sentence(INCONCLUSIVE))
    if reasons:
        return Invest(INCONCLUSIVE, " ".join(reasons), baseline, contexts, largest)
    shares = [(context.share, context.S) for context in contexts if context.share]
    if verdicts == {GO}:
        bound, S = min((share.low, S) for share, S in shares)
        claim, which = f"at least {percent(settings.invest.go)}", "smallest lower"
    else:
        bound, S = max((share.high, S) for share, S in shares)
        claim, which = f"less than {percent(settings.invest.no_go)}", "largest upper"
    reason = (
        f"Selection takes {claim} of the {baseline} step at every target context: "
        f"the {which} {percent(settings.confidence)} bound is {bound:.1f} % (S = {S}{packed_by(contexts, S)})."
    )
    return Invest(verdicts.pop(), reason, baseline, contexts, largest)


def packed_by(contexts: Sequence[ContextVerdict], S: int) -> str:
    """Which packing a context was decided with."""
    name = next((context.variant for context in contexts if context.S == S), None)
    return f", packed by {name}, the fastest" if name else ""


def context_verdict(
    baseline: str,
    S: int,
    cell: CellSummary | None,
    checks: Sequence[Check],
    settings: GateSettings,
    unused_gpu: str | None = None,
) -> ContextVerdict:
    """What the baseline's cell at S says; a fired blocking check and disagreeing shares come before the thresholds."""
    if cell is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} has no record", None, None)
    if cell.figures is None:
        return ContextVerdict(S, NOT_MEASURED, f"{baseline} is {outcome_words(cell.cell)}", None, None)
    found, arms = cell.figures, cell.figures.arms
    if found.device.kind != "cuda":
        why = f" ({unused_gpu})" if unused_gpu else ""
        reason = f"no CUDA device measured it{why}, and CPU wall times decide nothing about a GPU kernel"
        verdict = NOT_MEASURED
    elif blocked := blocking(checks, cell.cell.name):
        verdict, reason = INCONCLUSIVE, blocked_by(blocked)
    else:
        verdict, reason = share_verdict(arms, settings)
        others = [(name, share_verdict(found.variants[name], settings)) for name in as_fast(found)]
        if differs := [(name, other) for name, (other, _) in others if other != verdict]:
            named = ", ".join(f"{name} says {other}" for name, other in differs)
            reason = (
                f"{found.variant} says {verdict} ({reason}), and {named}, whose ms_total cannot be told from it: more "
                "processes tell which packing is the fastest"
            )
            verdict = INCONCLUSIVE
    return ContextVerdict(S, verdict, reason, arms.sel_pct, arms.sel_loo_pct, found.variant)


def as_fast(found: CellFigures) -> list[str]:
    """The variants whose interval of ms_total overlaps that of the fastest, which is not among them."""
    return [
        name
        for name, arms in found.variants.items()
        if name != found.variant and arms.ms_total.low <= found.arms.ms_total.high
    ]


def share_verdict(arms: ArmFigures, settings: GateSettings) -> tuple[str, str]:
    """What one packing's selection share says, and why."""
    share, loo = arms.sel_pct, arms.sel_loo_pct
    go, no_go = 100 * settings.invest.go, 100 * settings.invest.no_go
    shown = f"{share.value:.1f} % [{share.low:.1f}, {share.high:.1f}]"
    if not share.replicated:
        return INCONCLUSIVE, f"too few replicates: one process gives {share.value:.1f} % no interval"
    if contradict(share, loo, settings):
        allowed = 100 * settings.invest.max_disagreement
        shown = f"{share.value:.1f} % and {loo.value:.1f} % of ms_total, more than {allowed:g} points apart"
        return INCONCLUSIVE, f"ms_sel and ms_sel_loo disagree: {shown}"
    if share.low >= go:
        return GO, f"{shown} ≥ {go:g} %"
    if share.high < no_go:
        return NO_GO, f"{shown} < {no_go:g} %"
    shown += f" over {share.processes} processes"
    crossed = [f"{bound:g} %" for bound in (no_go, go) if share.low < bound <= share.high]
    if len(crossed) < 2 and no_go <= share.value < go:
        return INCONCLUSIVE, f"borderline: {shown}, between {no_go:g} % and {go:g} %"
    return INCONCLUSIVE, f"too few replicates: {shown} reaches across {' and '.join(crossed)}; more processes narrow it"


def contradict(share: Estimate, loo: Estimate, settings: GateSettings) -> bool:
    """Whether selection's own share and what leaving it out saves are too far apart for either to decide."""
    return abs(share.value - loo.value) > 100 * settings.invest.max_disagreement


def disagrees(found: ContextVerdict, settings: GateSettings) -> bool:
    """Whether a context is undecided because its two shares contradict each other."""
    if found.share is None or found.share_loo is None:
        return False
    return contradict(found.share, found.share_loo, settings)


def largest_part(baseline: str, found: Sequence[CellFigures | None]) -> str | None:
    """The part with the highest ceiling at the longest target context that CUDA measured; None without any.

    Args:
        found: the baseline's cells that no check blocks: the figures of others decide nothing.
    """
    measured = [cell for cell in found if cell is not None and cell.device.kind == "cuda" and cell.ceilings]
    if not measured:
        return None
    cell = max(measured, key=lambda each: each.S)
    part, ceiling = max(cell.ceilings.items(), key=lambda item: item[1].value)
    bounds = f" [{ceiling.low:.2f}, {ceiling.high:.2f}]" if ceiling.replicated else ""
    return (
        f"The largest part of the {baseline} step at S = {cell.S} is {PART_NAMES[part]}: without it the step would be "
        f"{ceiling.value:.2f}{bounds} times as fast, selection alone {cell.ceilings['sel'].value:.2f}."
    )
