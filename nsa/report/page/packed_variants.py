"""Packed SDPA's own table: every variant, its time and its error on each shape of the grid, or that it refuses it."""

from __future__ import annotations

from dataclasses import astuple

from nsa.config import CheckSettings, GateSettings
from nsa.records.facts import CheckFacts
from nsa.records.words import VARIANT
from nsa.report.analysis.kernel import Measured, Tolerance, measured
from nsa.report.analysis.read import Record
from nsa.report.page.tables import MISSING, Table, significant


def packed_variants_table(record: Record[CheckFacts], check: CheckSettings, gates: GateSettings) -> Table:
    """One line per shape: µs and worst-row oracle error of each variant; a wrong one and one that refuses say so."""
    grid = measured(record, check, gates) if record.ok else {}
    refusals = {(left.name, left.shape) for left in record.facts.left_out} if record.ok else set()
    known = {name for kernels in grid.values() for name in kernels} | {name for name, _ in refusals}
    names = sorted(name for name in known if name.startswith(VARIANT))
    header = ["N", "h", "D", "Dv", "n"]
    for name in names:
        header += [f"{name.removeprefix(VARIANT)} µs", "oracle error"]
    lines = []
    for shape, kernels in grid.items() if names else []:
        line = [str(size) for size in astuple(shape)]
        for name in names:
            line += columns(kernels.get(name), (name, str(shape)) in refusals, Tolerance.of(gates.accept))
        lines.append(tuple(line))
    return Table(tuple(header), tuple(lines))


def columns(found: Measured | None, refused: bool, allowed: Tolerance) -> tuple[str, str]:
    """The time of a variant on a shape, and its error or what is wrong; why it refuses stands among the anomalies."""
    if found is None:
        return MISSING, "refused" if refused else MISSING
    failures = ", ".join(found.failures(allowed))
    error = f"{found.correctness.oracle_error:.1e}" if found.correctness else MISSING
    return significant(found.time_us), failures or error
