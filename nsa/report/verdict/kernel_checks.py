"""The checks that run by themselves on a kernel check: its control, its processes, and packed SDPA beside it."""

from __future__ import annotations

from collections.abc import Mapping

from nsa.config import CheckSettings, GateSettings
from nsa.records.facts import CheckFacts
from nsa.records.shapes import GridShape
from nsa.records.words import VARIANT
from nsa.report.analysis.aa import Control
from nsa.report.analysis.kernel import Measured, Tolerance, measured
from nsa.report.analysis.read import Record
from nsa.report.analysis.replicates import paces
from nsa.report.verdict.checks import Check, aa_control
from nsa.report.verdict.corners import corner_checks
from nsa.report.verdict.isolation import isolation_checks
from nsa.report.verdict.machine import Moves, machine_checks, replicates_differ
from nsa.report.verdict.tried import on_shapes, rival_missing
from nsa.report.verdict.warnings import clock_spread, other_processes
from nsa.report.verdict.words import BLOCKING, WARNING

Grid = Mapping[GridShape, Mapping[str, Measured]]
NAMED = 3  # shapes that a message names; the report's tables have them all


def kernel_checks(
    record: Record[CheckFacts],
    again: bool,
    control: Control | None,
    run: Moves,
    settings: CheckSettings,
    gates: GateSettings,
) -> list[Check]:
    """Every check of a kernel check that ran; on a CPU, where nothing is timed, those on results only.

    Args:
        again: whether the kernel was timed a second time.
        control: its A/A ratio; None where it has no interval.
        run: the machine's control in every record of the run.
    """
    grid = measured(record, settings, gates)
    results = [packed_variant_wrong(record.name, grid, gates), packed_variant_refused(record, grid)]
    results.append(rival_missing(record))
    results += [*corner_checks(record, Tolerance.of(gates.accept)), *isolation_checks(record)]
    if not record.on_cuda:
        return [*results, other_processes(record)]
    values = record.rows[record.rows["value_ns"].notna()]
    found = [
        *results,
        aa_control(record.name, control, BLOCKING) if again else no_control(record.name),
        *replicates_differ(record.name, paces(record)),
        *machine_checks(record, values, run),
        clock_spread(record.name, values, record.facts.replicates),
        other_processes(record),
    ]
    return [check for check in found if check is not None]


def no_control(name: str) -> Check:
    """The kernel was timed once only, so that nothing shows whether equal kernels have equal times."""
    message = "no A/A control was timed: the kernel again, under another name"
    return Check("aa_control", BLOCKING, name, None, 1.0, message, True)


def packed_variant_wrong(name: str, grid: Grid, gates: GateSettings) -> Check:
    """A wrong variant does not compete, so the one that wins may not be the fastest: nothing is decided then."""
    allowed = Tolerance.of(gates.accept)
    wrong = [
        f"{variant.removeprefix(VARIANT)} on {shape}: {', '.join(failures)}"
        for shape, kernels in grid.items()
        for variant, found in kernels.items()
        if variant.startswith(VARIANT) and (failures := found.failures(allowed))
    ]
    message = _named(wrong) or "every packed SDPA variant is correct on every shape"
    return Check("packed_variant_wrong", BLOCKING, name, float(len(wrong)), 0.0, message, bool(wrong))


def packed_variant_refused(record: Record[CheckFacts], grid: Grid) -> Check:
    """A variant that takes no part on a shape, and says why."""
    refused: dict[tuple[str, str], list[str]] = {}  # variant and reason, the shapes
    for left in record.facts.left_out:
        if left.name.startswith(VARIANT):
            refused.setdefault((left.name, left.reason), []).append(left.shape)
    clauses = [
        f"{variant.removeprefix(VARIANT)} on {on_shapes(shapes, len(grid))}: {reason}"
        for (variant, reason), shapes in refused.items()
    ]
    count = float(sum(map(len, refused.values())))
    message = "; ".join(clauses) or "every packed SDPA variant took part on every shape"
    return Check("packed_variant_refused", WARNING, record.name, count, 0.0, message, bool(refused))


def _named(found: list[str]) -> str:
    """The first few clauses, and how many more there are."""
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more
