"""What a run left, read and judged: its records, its figures, the automatic checks and both gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nsa.config import CheckSettings, GateSettings
from nsa.report.analysis.read import Cell, Record, Stamps, cell_name, read_cell, read_check
from nsa.report.analysis.summary import Row, current_rows
from nsa.report.verdict.checks import Check, blocking_checks, record_checks
from nsa.report.verdict.gates import Accept, Invest, accept, invest
from nsa.report.verdict.warnings import other_processes, warning_checks

AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class ReportSettings:
    """What decides: the baseline, the candidates (every other backend), the target contexts, the grid, the gates."""

    baseline: str
    backends: tuple[str, ...]
    target_contexts: tuple[int, ...]
    check: CheckSettings
    gates: GateSettings

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ReportSettings:
        """Build from the settings of the report stage's stamp; `check` and `gates` are sections of config.yaml."""
        return cls(
            baseline=settings["baseline"],
            backends=tuple(settings["backends"]),
            target_contexts=tuple(settings["target_contexts"]),
            check=CheckSettings.from_dict(settings["check"]),
            gates=GateSettings(**settings["gates"]),
        )


@dataclass(frozen=True)
class Run:
    """Every record of one run as today sees it, and what the run says.

    Attributes:
        cells: a cell whose summary may not be used has the summary's status.
        kernel: the kernel checks by backend.
        rows: a summary row for every cell, in the order of the settings' backends.
    """

    cells: tuple[Cell, ...]
    kernel: Mapping[str, Record]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    invest: Invest
    accepts: tuple[Accept, ...]

    @property
    def records(self) -> dict[str, Record]:
        """Every record of a measurement, by its name."""
        return {record.name: record for record in (*self.cells, *self.kernel.values())}

    @property
    def measured(self) -> list[Record]:
        """The records whose figures may be used; all are of one device model."""
        return [record for record in self.records.values() if record.status == "ok"]


def read_run(
    environment: Mapping[str, Any],
    summaries: Sequence[Path],
    cells: Sequence[Path],
    checks: Sequence[Path],
    stamps: Stamps,
    settings: ReportSettings,
) -> Run:
    """Read a run's records, make every automatic check, and decide both gates.

    Args:
        environment: what the probe recorded; its device is the model that every record must be of.
        summaries, cells, checks: results/decode_*.parquet, results/decode/*/S*.parquet, results/check_*.parquet.
        stamps: today's digests by stage.
        settings: what decides.

    Raises:
        RecordError: a path names no cell or no backend.
    """
    order = {backend: place for place, backend in enumerate(settings.backends)}
    read = tuple(of_one_model(read_cell(path, stamps), environment) for path in cells)
    kernel = {record.backend: of_one_model(record, environment) for record in (read_check(p, stamps) for p in checks)}
    rows = current_rows(read, summaries, settings.gates.confidence)
    rows.sort(key=lambda row: (order.get(row["backend"], len(order)), row["S"]))
    found = run_checks(read, list(kernel.values()), rows)
    verdict = invest(settings.baseline, settings.target_contexts, rows, found, settings.gates)
    candidates = [backend for backend in settings.backends if backend != settings.baseline]
    accepts = tuple(accept(backend, kernel.get(backend), settings.check, settings.gates) for backend in candidates)
    status = {(row["backend"], row["S"]): row for row in rows}
    seen = tuple(as_its_row_says(cell, status[cell.backend, cell.S]) for cell in read)
    return Run(seen, kernel, tuple(rows), tuple(found), verdict, accepts)


def as_its_row_says(cell: Cell, row: Row) -> Cell:
    """The cell, without its figures where its summary may not be used."""
    if cell.status == row["status"]:
        return cell
    return replace(cell, status=row["status"], reason=row["reason"], fix=row["fix"], rows=cell.rows[:0])


def of_one_model(record: AnyRecord, environment: Mapping[str, Any]) -> AnyRecord:
    """The record as it is, or INVALID where another model measured it than the one that this report is of.

    Two GPUs of one model are alike; two models in one table would be compared as if they were backends.
    """
    model, expected = device_name(record), environment.get("cpu" if record.device == "cpu" else "device")
    if model is None or model == expected:
        return record
    reason = f"{record.name} was measured on {model}, and this run is of {expected}"
    return replace(record, status="invalid", reason=reason, fix="rerun it on one model of GPU", rows=record.rows[:0])


def device_name(record: Record) -> str | None:
    """The model of the device that measured a record's rows; None of a record without rows that may be used."""
    if record.status != "ok":
        return None
    return str(record.rows["device_name"].iloc[0]) if "device_name" in record.rows else record.facts.get("device_name")


def run_checks(cells: Sequence[Cell], kernel: Sequence[Record], rows: Sequence[Row]) -> list[Check]:
    """Every automatic check: on each record, and on each cell whose figures may be used."""
    by_key = {(row["backend"], row["S"]): row for row in rows}
    found: list[Check] = []
    for row in rows:
        found += record_checks(cell_name(row["backend"], row["S"]), row["status"], row["reason"])
    for record in kernel:
        found += record_checks(record.name, record.status, record.reason)
        if record.status == "ok":
            found.append(other_processes(record))
    for cell in cells:
        row = by_key[cell.backend, cell.S]
        if row["status"] == "ok":
            found += [*blocking_checks(cell, row), *warning_checks(cell, row)]
    return found
