"""The blocking checks of a decode cell, and the table that keeps every check (docs/verdicts.md#automatic-checks)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from nsa.records import parquet
from nsa.records.decode import DecodeFacts, Reads
from nsa.records.made import ChecksHeader
from nsa.records.merge import Model
from nsa.report.analysis.aa import Control
from nsa.report.analysis.read import Cell, Record
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ArmFigures, CellFigures
from nsa.report.verdict.words import BLOCKING, WARNING

CHECKS = pa.schema(
    [
        ("name", pa.string()),
        ("severity", pa.string()),  # blocking or warning
        ("cell", pa.string()),  # {backend}/S{S}, or check_{backend}
        ("observed", pa.float64()),
        ("threshold", pa.float64()),
        ("message", pa.string()),
        ("fired", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Check:
    """One check of one record; it is kept when it did not fire, too."""

    name: str
    severity: str
    cell: str
    observed: float | None
    threshold: float | None
    message: str  # what was seen, in one sentence
    fired: bool

    @property
    def blocks(self) -> bool:
        """Whether what it is of may decide nothing."""
        return self.fired and self.severity == BLOCKING


def write(path: Path, checks: Sequence[Check]) -> None:
    """Write the checks table."""
    parquet.write(path, [asdict(check) for check in checks], CHECKS, ChecksHeader())


def blocking(checks: Sequence[Check], cell: str) -> list[Check]:
    """The checks that block one record."""
    return [check for check in checks if check.blocks and check.cell == cell]


def record_checks(record: Record[Model]) -> list[Check]:
    """Whether a record can be read (blocking) and is of today (warning)."""
    checks = []
    for wrong, severity in (("invalid", BLOCKING), ("stale", WARNING)):
        fired = record.status == wrong
        message = f"{wrong.upper()}: {record.reason}" if fired else f"the record is not {wrong}"
        checks.append(Check(f"record_{wrong}", severity, record.name, None, None, message, fired))
    return checks


def on_times(record: Record[Model]) -> str:
    """The severity of a check on times: it blocks on CUDA, and warns on a CPU, whose times decide nothing."""
    return BLOCKING if record.on_cuda else WARNING


def blocking_checks(cell: Cell, figures: CellFigures, control: Control | None) -> list[Check]:
    """The blocking checks of a cell that ran, but for what its arms launched."""
    name, severity = cell.name, on_times(cell)
    return [
        reads_differ(name, cell.facts.reads),
        backend_substituted(cell),
        output_not_finite(name, cell.facts.outputs_finite),
        routing_wrong(name, cell.facts.routing_fault),
        aa_control(name, control, severity),
        *below_memory_floor(name, cell.facts, figures.arms.ms_total.value, severity),
        impossible_share(name, figures.arms, severity),
    ]


def reads_differ(name: str, reads: Reads) -> Check:
    """Counted reads against the closed form; they are counts, so they are equal or they are not."""
    actual, expected = reads.actual, reads.expected
    fired = not math.isclose(actual, expected, rel_tol=1e-9)  # averages of counts: only float rounding may differ
    message = f"{actual:g} KV tokens read, {expected:g} expected (causality or schedule)"
    return Check("reads_differ", BLOCKING, name, actual, expected, message, fired)


def backend_substituted(cell: Cell) -> Check:
    """What was requested is what ran."""
    requested, resolved = cell.rows["backend_requested"], cell.rows["backend_resolved"]
    wrong = cell.rows[(requested != cell.backend) | (resolved != cell.backend)]
    if len(wrong):
        first = wrong.iloc[0]
        message = f"{first['backend_requested']} was requested, {first['backend_resolved']} ran"
    else:
        message = f"{cell.backend} was requested and ran"
    return Check("backend_substituted", BLOCKING, cell.name, float(len(wrong)), 0.0, message, len(wrong) > 0)


def output_not_finite(name: str, finite: bool) -> Check:
    """No output is NaN or infinite, whatever lies in memory that is not to be read."""
    said = "every output is finite" if finite else "an output is not finite or was not written"
    return Check("output_not_finite", BLOCKING, name, None, None, said, not finite)


def routing_wrong(name: str, fault: str | None) -> Check:
    """The blocks that routing chose on crafted scores, ties included, were the oracle's."""
    message = f"routing differs from the oracle: {fault}" if fault else "routing chose the oracle's blocks"
    return Check("routing_wrong", BLOCKING, name, None, None, message, fault is not None)


def aa_control(name: str, control: Control | None, severity: str) -> Check:
    """The same thing under two names must not differ, at a confidence that holds for all of the run's controls."""
    if control is None:
        return Check("aa_control", severity, name, None, 1.0, "one process gives the A/A control no interval", False)
    ratio = control.ratio
    message = (
        f"the same twice: ratio {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], expected to contain 1, "
        f"at {100 * control.confidence:.4g} % confidence as the run's A/A controls are {control.controls}"
    )
    return Check("aa_control", severity, name, ratio.value, 1.0, message, control.excludes_one)


def below_memory_floor(name: str, facts: DecodeFacts, total_ms: float, severity: str) -> list[Check]:
    """No step is faster than its bytes at the best measured bandwidth; no check where that was not measured."""
    if not facts.bandwidth_bytes_per_s:
        return []
    floor_ms = 1e3 * facts.bytes_read / max(facts.bandwidth_bytes_per_s)
    message = f"the step takes {total_ms:.4g} ms; reading its bytes alone takes {floor_ms:.4g} ms"
    return [Check("below_memory_floor", severity, name, total_ms, floor_ms, message, total_ms < floor_ms)]


def impossible_share(name: str, arms: ArmFigures, severity: str) -> Check:
    """No share above 100 % and no marginal below 0, beyond its interval."""
    shares = {
        "cmp_pct": arms.cmp_pct,
        "sel_pct": arms.sel_pct,
        "win_pct": arms.win_pct,
        "sel_loo_pct": arms.sel_loo_pct,
    }
    marginals = {"ms_cmp": arms.ms_cmp, "ms_sel": arms.ms_sel, "ms_win": arms.ms_win, "ms_route": arms.ms_route}
    marginals |= {"ms_sel_loo": arms.ms_sel_loo}
    faults = [(key, 100.0, share) for key, share in shares.items() if share.low > 100]
    faults += [(key, 0.0, marginal) for key, marginal in marginals.items() if marginal.high < 0]
    if not faults:
        message = "every share is at most 100 % and every marginal at least 0, within its interval"
        return Check("impossible_share", severity, name, None, None, message, False)
    _, bound, worst = faults[0]
    message = "; ".join(f"{key} {_bracketed(found)}, bound {limit:g}" for key, limit, found in faults)
    return Check("impossible_share", severity, name, worst.value, bound, message, True)


def _bracketed(found: Estimate) -> str:
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"
