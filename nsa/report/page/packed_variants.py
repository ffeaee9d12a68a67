"""Packed SDPA's own table: every variant that competes, its time and its error on each shape of the grid."""

from __future__ import annotations

from dataclasses import astuple

from nsa.config import CheckSettings, GateSettings
from nsa.report.analysis.kernel import AXES, VARIANT, shapes, typical_us, worst
from nsa.report.analysis.read import Record
from nsa.report.page.tables import MISSING, Table, significant


def competition(record: Record, check: CheckSettings, gates: GateSettings) -> Table:
    """One line per shape: µs and worst-row oracle error of each variant; a wrong one says so."""
    packed = record.rows[record.rows["backend"].str.startswith(VARIANT)] if len(record.rows) else record.rows
    names = sorted(packed["backend"].unique()) if len(packed) else []
    header = ["N", "h", "D", "Dv", "n"]
    for name in names:
        header += [f"{name.removeprefix(VARIANT)} µs", "oracle error"]
    lines = []
    for shape in shapes(check, record.device) if names else []:
        line = [str(size) for size in astuple(shape)]
        here = packed[(packed[list(AXES)] == list(astuple(shape))).all(axis=1)]
        for name in names:
            rows = here[here["backend"] == name]
            timed = rows[rows["value_ns"].notna()]
            result = worst(rows, gates.accept["error_ratio"])
            failures = result.failures(gates.accept) if result else []
            error = f"{result.oracle_error:.1e}" if result else MISSING
            line += [significant(typical_us(timed)) if len(timed) else MISSING, ", ".join(failures) or error]
        lines.append(tuple(line))
    return Table(tuple(header), tuple(lines))
