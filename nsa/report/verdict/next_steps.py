"""What to do next about each verdict, in one sentence (docs/verdicts.md#the-two-gates)."""

from __future__ import annotations

from collections.abc import Sequence

from nsa.config import GateSettings
from nsa.layout import Layout
from nsa.records.facts import Environment
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import CellSummary
from nsa.report.verdict.checks import Check, blocking
from nsa.report.verdict.cores import CoreAccept
from nsa.report.verdict.gates import Accept
from nsa.report.verdict.invest import Invest, disagrees
from nsa.report.verdict.words import ACCEPT, GO, INCONCLUSIVE, NO_GO, NOT_MEASURED

MORE_PROCESSES = "snakemake --configfile profiles/ci/decision.yaml"
GPU = "make report"


def after_invest(
    found: Invest,
    accepts: Sequence[Accept],
    cells: Sequence[CellSummary],
    checks: Sequence[Check],
    environment: Environment,
    settings: GateSettings,
) -> str:
    """What the invest gate's verdict asks for.

    Args:
        cells, checks: all of the run.
        environment: what the probe recorded: whether torch can use a GPU.
    """
    if found.verdict == GO:
        ready = [accept.backend for accept in accepts if accept.verdict == ACCEPT]
        if ready:
            return f"A kernel is accepted already: ship {' or '.join(ready)}."
        return "Build a selection kernel; the accept gate says when it is good enough."
    if found.verdict == NO_GO:
        return "Leave selection as it is, and start with the largest part of the step."
    own = [each.cell for each in cells if each.backend == found.baseline]
    if found.verdict == INCONCLUSIVE:
        names = {cell.name for cell in own}
        blocked = [check for check in checks if check.blocks and check.cell in names]
        if blocked:
            return mend(blocked)
        if {context.verdict for context in found.contexts} >= {GO, NO_GO}:
            return "Leave the contexts that you serve in `target_contexts`, and run again: they disagree."
        if any(disagrees(context, settings) for context in found.contexts):
            return "Parts overlap, so selection's own time is not what leaving it out saves: decide by sel l.o.o."
        return f"Measure with more processes: `{MORE_PROCESSES}`."
    if not environment.cuda:
        return without_gpu(environment)
    fixes = dict.fromkeys(cell.fix for cell in own if cell.fix)
    return sentence("; ".join(fixes)) if fixes else f"Run again: `{GPU}`."


def after_accept(
    found: Accept | CoreAccept, name: str, wanted: float, checks: Sequence[Check], environment: Environment
) -> str:
    """What the verdict on one kernel or on one decode core asks for.

    Args:
        name: of its check's record.
        wanted: the speedup that is needed.
        checks: all of the run.
        environment: as above.
    """
    if found.verdict == ACCEPT:
        return "Ship it; `python -m nsa accept` keeps this run, and later ones say what became slower."
    if found.verdict == INCONCLUSIVE:
        return mend(blocking(checks, name))
    if found.verdict == NOT_MEASURED:
        if found.fix:
            return sentence(found.fix)
        if any(shape.figures.speedup and not shape.figures.speedup.replicated for shape in found.shapes):
            return f"Measure with more processes: `{MORE_PROCESSES}`."
        return without_gpu(environment) if not environment.cuda else f"Run again: `{GPU}`."
    if wrong := found.wrong_shapes:
        return f"Mend the results first, speed counts after that: {wrong[0]}{' and others' if len(wrong) > 1 else ''}."
    worst = slowest(found)
    where = f" where it is slowest, {worst[0]}" if worst else ""
    return f"Make it faster{where}: {wanted:g} × is needed."


def mend(blocked: Sequence[Check]) -> str:
    """What to do about checks that block: a record that is whole and of today's sources is not measured again."""
    names = dict.fromkeys(check.name for check in blocked)
    records = dict.fromkeys(str(Layout().record(check.cell)) for check in blocked)
    return f"Mend what blocks it ({', '.join(names)}, see Anomalies), `rm {' '.join(records)}`, and run again."


def slowest(found: Accept | CoreAccept) -> tuple[str, Estimate] | None:
    """The shape whose speedup has the smallest lower bound; None where no shape has a speedup."""
    known = [(str(shape.figures.shape), shape.figures.speedup) for shape in found.shapes]
    timed = [(shape, speed) for shape, speed in known if speed is not None]
    return min(timed, key=lambda each: each[1].low) if timed else None


def without_gpu(environment: Environment) -> str:
    """What to do where torch has no CUDA device: the reason is the probe's."""
    if environment.unused_gpu and environment.fix:
        return f"{sentence(environment.unused_gpu)} {sentence(environment.fix)} Then `{GPU}`."
    seen = f" ({environment.note})" if environment.note else ""
    return f"Run `{GPU}` on a machine whose NVIDIA GPU torch can use{seen}."


def sentence(fix: str) -> str:
    """A fix as a sentence of its own."""
    return f"{fix[:1].upper()}{fix[1:].rstrip('.')}."
