"""The blocking checks that run by themselves, and the table that keeps every check (measurement, "Checks")."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from nsa.records import parquet
from nsa.report.analysis.read import Cell
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import Row

BLOCKING, WARNING = "blocking", "warning"
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
MARGINALS = ("ms_cmp", "ms_sel", "ms_win", "ms_route", "ms_sel_loo")
SHARES = ("cmp_pct", "sel_pct", "win_pct", "sel_loo_pct")
LAUNCH_PAIRS = (("all", "all_without_sel"), ("sel", "none"), ("win", "none"), ("cmp", "none"))  # with a part, without


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


def write(path: Path, checks: Sequence[Check]) -> None:
    """Write the checks table."""
    parquet.write(path, [asdict(check) for check in checks], CHECKS, {"stage": "checks"})


def record_checks(name: str, status: str, reason: str | None) -> list[Check]:
    """Whether a record can be read (blocking) and is of today (warning)."""
    checks = []
    for wrong, severity in (("invalid", BLOCKING), ("stale", WARNING)):
        fired = status == wrong
        message = f"{wrong.upper()}: {reason}" if fired else f"the record is not {wrong}"
        checks.append(Check(f"record_{wrong}", severity, name, None, None, message, fired))
    return checks


def blocking_checks(cell: Cell, row: Row) -> list[Check]:
    """The blocking checks of a cell that ran; its row is one of `summary.with_run_aa`.

    Those on times warn only where the device is a CPU: its times decide nothing, so they block nothing.
    """
    facts, name = cell.facts, cell.name
    on_times = BLOCKING if cell.device == "cuda" else WARNING
    return [
        reads_differ(name, facts["reads"]),
        backend_substituted(cell),
        Check(
            "output_not_finite",
            BLOCKING,
            name,
            None,
            None,
            "every output is finite" if facts["outputs_finite"] else "an output is not finite or was not written",
            not facts["outputs_finite"],
        ),
        routing_wrong(cell),
        skipped_part_launched(cell),
        aa_control(name, row, on_times),
        *below_memory_floor(cell, row, on_times),
        impossible_share(name, row, on_times),
    ]


def reads_differ(name: str, reads: Mapping[str, float]) -> Check:
    """Counted reads against the closed form; they are counts, so they are equal or they are not."""
    actual, expected = reads["actual"], reads["expected"]
    fired = not math.isclose(actual, expected, rel_tol=1e-9)  # averages of counts: only float rounding may differ
    message = f"{actual:g} KV tokens read, {expected:g} expected (causality or schedule)"
    return Check("reads_differ", BLOCKING, name, actual, expected, message, fired)


def backend_substituted(cell: Cell) -> Check:
    """What was requested is what ran."""
    requested, resolved = cell.rows["backend_requested"], cell.rows["backend_resolved"]
    wrong = cell.rows[(requested != cell.backend) | (resolved != cell.backend)]
    if len(wrong):
        first = wrong.iloc[0]
        message = f"{first['backend_requested']} was requested, {first['backend_resolved']} ran: {first['reason']}"
    else:
        message = f"{cell.backend} was requested and ran"
    return Check("backend_substituted", BLOCKING, cell.name, float(len(wrong)), 0.0, message, len(wrong) > 0)


def routing_wrong(cell: Cell) -> Check:
    """The blocks that routing chose on crafted scores, ties included, were the oracle's."""
    fault = cell.facts.get("routing_fault")
    message = f"routing differs from the oracle: {fault}" if fault else "routing chose the oracle's blocks"
    return Check("routing_wrong", BLOCKING, cell.name, None, None, message, fault is not None)


def skipped_part_launched(cell: Cell) -> Check:
    """A part that is off launches nothing: what the run itself found, and arms whose launches do not differ at all."""
    unexpected = {arm: names for arm, names in (cell.facts.get("unexpected_launches") or {}).items() if names}
    launches = cell.facts.get("launches") or {}
    faults = [f"arm {arm} launched {', '.join(names)}" for arm, names in unexpected.items()]
    for with_part, without in LAUNCH_PAIRS:
        empty_branch = with_part == "cmp" and not cell.facts["reads"]["cmp"]  # S < l: nothing to launch yet
        known = with_part in launches and without in launches and not empty_branch
        if known and Counter(launches[with_part]) == Counter(launches[without]):
            faults.append(f"arm {without} launched exactly what arm {with_part} launched")
    message = "; ".join(faults) or "no arm launched a part that was off"
    return Check("skipped_part_launched", BLOCKING, cell.name, float(len(faults)), 0.0, message, bool(faults))


def aa_control(name: str, row: Row, severity: str) -> Check:
    """The same arm under two names must not differ, at a confidence that holds for all of the run's controls."""
    ratio, low, high = row["aa_ratio"], row["aa_run_lo"], row["aa_run_hi"]
    if low is None:
        return Check("aa_control", severity, name, None, 1.0, "one process gives the A/A control no interval", False)
    message = (
        f"the same arm twice: ratio {ratio:.4f} [{low:.4f}, {high:.4f}], expected to contain 1, "
        f"at {100 * row['aa_confidence']:.4g} % confidence as the run's A/A controls are {row['aa_cells']}"
    )
    return Check("aa_control", severity, name, ratio, 1.0, message, not low <= 1 <= high)


def below_memory_floor(cell: Cell, row: Row, severity: str) -> list[Check]:
    """No step is faster than its bytes at the measured bandwidth; no check where the bandwidth was not measured."""
    bandwidth = cell.facts.get("bandwidth_bytes_per_s")
    if not bandwidth:
        return []
    floor_ms = 1e3 * cell.facts["bytes_read"] / bandwidth
    message = f"the step takes {row['ms_total']:.4g} ms; reading its bytes alone takes {floor_ms:.4g} ms"
    fired = row["ms_total"] < floor_ms
    return [Check("below_memory_floor", severity, cell.name, row["ms_total"], floor_ms, message, fired)]


def impossible_share(name: str, row: Row, severity: str) -> Check:
    """No share above 100 % and no marginal below 0, beyond its interval."""
    faults = []
    for column, bound in [*((share, 100.0) for share in SHARES), *((marginal, 0.0) for marginal in MARGINALS)]:
        estimate = Estimate.from_row(row, column, row["processes"])
        if estimate and (estimate.low > bound if column in SHARES else estimate.high < bound):
            faults.append((column, bound, estimate))
    if not faults:
        message = "every share is at most 100 % and every marginal at least 0, within its interval"
        return Check("impossible_share", severity, name, None, None, message, False)
    column, bound, worst = faults[0]
    message = "; ".join(f"{key} {e.value:.4g} [{e.low:.4g}, {e.high:.4g}], bound {b:g}" for key, b, e in faults)
    return Check("impossible_share", severity, name, worst.value, bound, message, True)
