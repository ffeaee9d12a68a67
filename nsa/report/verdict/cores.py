"""The verdict on decode cores: right everywhere, and no slower than dense attention (docs/core_check.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa.config import CoreSettings, GateSettings
from nsa.records.facts import CoreFacts
from nsa.records.words import AGAIN, DENSE
from nsa.report.analysis.aa import Control
from nsa.report.analysis.core import CoreCorner, CoreFigures, core_corners, core_figures
from nsa.report.analysis.read import Record
from nsa.report.analysis.replicates import paces
from nsa.report.verdict.checks import Check, aa_control, blocking
from nsa.report.verdict.gates import NAMED, blocked_by, outcome_words, percent
from nsa.report.verdict.isolation import clocks_disagree, torch_switched
from nsa.report.verdict.kernel_checks import no_control
from nsa.report.verdict.machine import Moves, machine_checks, replicates_differ
from nsa.report.verdict.step_checks import blocks_close
from nsa.report.verdict.tried import corners_missing, rival_missing
from nsa.report.verdict.warnings import clock_spread, other_processes
from nsa.report.verdict.words import ACCEPT, BLOCKING, INCONCLUSIVE, NOT_MEASURED, REJECT, WARNING


@dataclass(frozen=True)
class CoreShapeVerdict:
    """What one shape says of a core."""

    figures: CoreFigures
    verdict: str  # ACCEPT, REJECT or NOT MEASURED
    reason: str  # a clause
    correct: bool | None  # None where there are no results


@dataclass(frozen=True)
class CoreAccept:
    """Is this decode core right, and no slower than dense attention over the same caches?"""

    backend: str
    verdict: str  # ACCEPT, REJECT, INCONCLUSIVE or NOT MEASURED
    reason: str  # one sentence
    shapes: tuple[CoreShapeVerdict, ...] = ()
    fix: str | None = None
    status: str | None = None  # of its record; None where it ran
    corners: tuple[CoreCorner, ...] = ()

    @property
    def wrong_shapes(self) -> list[str]:
        """The shapes and corner cases on which the results are wrong."""
        shapes = [str(shape.figures.shape) for shape in self.shapes if shape.correct is False]
        return shapes + [f"corner case {corner.case}" for corner in wrong(self.corners)]


def wrong(corners: Sequence[CoreCorner]) -> list[CoreCorner]:
    """The corner cases that a core takes, and gets wrong."""
    return [corner for corner in corners if corner.fault is not None and not corner.refused]


def accept_core(
    backend: str, record: Record[CoreFacts] | None, checks: Sequence[Check], core: CoreSettings, gates: GateSettings
) -> CoreAccept:
    """Decide on one core: every shape and corner case right, and no shape slower than the fastest dense attention.

    Args:
        record: its core check; None when there is none.
        checks: all checks of the run.
        core: the grid.
    """
    if record is None:
        return CoreAccept(backend, NOT_MEASURED, f"{backend} has no core check record.")
    if not record.ok:
        return CoreAccept(
            backend, NOT_MEASURED, f"{backend} is {outcome_words(record)}.", (), record.fix, record.status
        )
    found = core_figures(record, core, gates.core.error_ratio, gates.confidence)
    verdicts = tuple(shape_verdict(each, gates) for each in found)
    corners = core_corners(record, gates.core.error_ratio)
    verdict, reason = _decided(verdicts, corners, record.on_cuda, blocking(checks, record.name), gates)
    return CoreAccept(backend, verdict, reason, verdicts, corners=corners)


def _decided(
    verdicts: Sequence[CoreShapeVerdict],
    corners: Sequence[CoreCorner],
    on_cuda: bool,
    blocked: Sequence[Check],
    gates: GateSettings,
) -> tuple[str, str]:
    rejected = [each for each in verdicts if each.verdict == REJECT]
    failing = [f"{each.figures.shape}: {each.reason}" for each in rejected]
    failing += [f"corner case {corner.case}: {corner.fault}" for corner in wrong(corners)]
    incorrect = bool(wrong(corners)) or any(each.correct is False for each in rejected)
    if failing and (incorrect or not blocked):
        return REJECT, f"{_some(failing)}."
    if not on_cuda:
        right = sum(each.correct is True for each in verdicts)
        return NOT_MEASURED, (
            f"No CUDA device: nothing was timed; on the CPU {right} of {len(verdicts)} shapes and "
            f"{_right(corners)} of {len(corners)} corner cases are correct."
        )
    undecided = [f"{each.figures.shape}: {each.reason}" for each in verdicts if each.verdict == NOT_MEASURED]
    if undecided:
        return NOT_MEASURED, f"{len(undecided)} of {len(verdicts)} shapes are not decided: {_some(undecided)}."
    if blocked:
        return INCONCLUSIVE, f"The core check is {blocked_by(blocked)}."
    slowest = min(verdicts, key=lambda each: each.figures.speedup.low if each.figures.speedup else 0.0)
    low = slowest.figures.speedup.low if slowest.figures.speedup else 0.0
    right = _right(corners)
    taken = f"{right}" if right == len(corners) else f"{right} of {len(corners)}"
    return ACCEPT, (
        f"All {len(verdicts)} shapes and {taken} corner cases are correct, and at least {low:.3g} times as fast "
        f"as the fastest correct dense attention (smallest lower {percent(gates.confidence)} bound, "
        f"{slowest.figures.shape})."
    )


def _right(corners: Sequence[CoreCorner]) -> int:
    """How many corner cases are right: one that a core refuses is not."""
    return sum(corner.fault is None for corner in corners)


def _some(clauses: Sequence[str]) -> str:
    more = f"; and {len(clauses) - NAMED} more" if len(clauses) > NAMED else ""
    return "; ".join(clauses[:NAMED]) + more


def shape_verdict(found: CoreFigures, gates: GateSettings) -> CoreShapeVerdict:
    """What one shape says: wrong results reject it, whatever its speed."""
    if found.faults is None:
        return CoreShapeVerdict(found, NOT_MEASURED, "no result", None)
    if found.faults:
        return CoreShapeVerdict(found, REJECT, found.faults[0], False)
    if found.time_us is None:
        return CoreShapeVerdict(found, NOT_MEASURED, "correct, not timed", True)
    if found.too_fast:
        return CoreShapeVerdict(found, REJECT, f"faster than it can read: {found.too_fast}", False)
    if found.winner is None or found.speedup is None:
        excluded = ", ".join(f"{rival.name.removeprefix(DENSE)}: {rival.fault}" for rival in found.dense)
        return CoreShapeVerdict(found, NOT_MEASURED, f"no correct dense attention was timed ({excluded})", True)
    speed = found.speedup
    if not speed.replicated:
        reason = f"too few replicates: one process, {speed.value:.3g} times as fast as dense"
        return CoreShapeVerdict(found, NOT_MEASURED, reason, True)
    name = found.winner.name.removeprefix(DENSE)
    shown = f"speedup {speed.value:.3g} [{speed.low:.3g}, {speed.high:.3g}] over dense {name}"
    if speed.low >= gates.core.speedup:
        return CoreShapeVerdict(found, ACCEPT, shown, True)
    return CoreShapeVerdict(found, REJECT, f"{shown}, lower bound < {gates.core.speedup:g}", True)


def core_checks(
    record: Record[CoreFacts],
    control: Control | None,
    run: Moves,
    core: CoreSettings,
    gates: GateSettings,
) -> list[Check]:
    """Every automatic check of a core check that ran; on a CPU, where nothing is timed, those on results only.

    Args:
        control: the core's A/A ratio; None where it has no interval.
        run: the machine's control in every record of the run.
    """
    figures = core_figures(record, core, gates.core.error_ratio, gates.confidence)
    seen = record.rows[["rows", "clear"]].sum()  # of the grid's rows; others have none
    close = blocks_close(record.name, int(seen["rows"]), int(seen["clear"]))
    results = [close, composed_wrong(record.name, figures), corners_missing(record), core_corner_refused(record, gates)]
    results += [dense_left_out(record), torch_switched(record)]
    if not record.on_cuda:
        return [*results, other_processes(record)]
    values = record.rows[record.rows["value_ns"].notna()]
    again = f"{AGAIN}{record.backend}" in set(values["backend"])
    found = [
        *results,
        aa_control(record.name, control, BLOCKING) if again else no_control(record.name),
        clocks_disagree(record),
        rival_missing(record),
        *replicates_differ(record.name, paces(record)),
        *machine_checks(record, values, run),
        clock_spread(record.name, values, record.facts.replicates),
        other_processes(record),
    ]
    return [check for check in found if check is not None]


def composed_wrong(name: str, figures: Sequence[CoreFigures]) -> Check:
    """The composed core, whose error a core is allowed twice, must be right itself."""
    faults = [f"{found.shape}: {found.composed.fault}" for found in figures if found.composed and found.composed.fault]
    message = _some(faults) or "the composed core is right on every shape"
    return Check("composed_wrong", BLOCKING, name, float(len(faults)), 0.0, message, bool(faults))


def core_corner_refused(record: Record[CoreFacts], gates: GateSettings) -> Check:
    """Cases that a core refuses, as it may."""
    found = core_corners(record, gates.core.error_ratio)
    refused = [f"{corner.case}: {corner.fault}" for corner in found if corner.refused]
    message = _some(refused) or f"{len(found)} corner cases were tried, and the core takes each"
    return Check("corner_refused", WARNING, record.name, float(len(refused)), 0.0, message, bool(refused))


def dense_left_out(record: Record[CoreFacts]) -> Check:
    """Kernels of dense attention that were not timed: the fastest may be among them."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for left in record.facts.left_out:
        reasons.setdefault((left.name.removeprefix(DENSE), left.reason), []).append(left.shape)
    clauses = [
        f"{name} on {shapes[0]}{f' and {len(shapes) - 1} more' if len(shapes) > 1 else ''}: {why}"
        for (name, why), shapes in reasons.items()
    ]
    message = "; ".join(clauses) or "every kernel of dense attention was timed on every shape"
    return Check("dense_left_out", WARNING, record.name, float(len(clauses)), 0.0, message, bool(clauses))
