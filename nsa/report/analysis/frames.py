"""All records of a results folder as tidy pandas frames, for notebooks; no verdict is made of them here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from nsa.config import GateSettings
from nsa.errors import RecordError
from nsa.layout import BACKEND, CONTEXT, Layout
from nsa.records.dram import DramFacts
from nsa.records.merge import Model
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Cell, Record, read_cell, read_check
from nsa.report.analysis.roofline import read_roofline
from nsa.report.analysis.summary import SUMMARY, flat, summarise

T = TypeVar("T")


@dataclass(frozen=True)
class Frames:
    """One frame for each kind of record; one that is not ok has a row in `records`, and none elsewhere but in `cells`.

    Attributes:
        records: one row per record: name, backend, S, status, reason, fix, device, git_commit, utc_time.
        cells: one row per decode cell: the columns of decode.csv; ms_* in ms, *_pct in per cent, *_lo and *_hi the
            95 % interval over processes.
        repetitions: one row per timed repetition of a decode cell, value_ns in ns (docs/decode_cell.md#arms).
        checks: one row per repetition or result of a kernel check, with the candidate whose check it is.
        roofline: the same of the roofline stage.
        dram: one row per shape whose DRAM bytes were counted.
    """

    records: pd.DataFrame
    cells: pd.DataFrame
    repetitions: pd.DataFrame
    checks: pd.DataFrame
    roofline: pd.DataFrame
    dram: pd.DataFrame


def load(results: Path) -> Frames:
    """Read every record in a results folder, whichever run and configuration it is of.

    Whether a record is of today is not judged: the report does that.

    Raises:
        RecordError: there is no record.
    """
    layout = Layout(results)
    cells = _all(layout.cell("*", "*"), layout, read_cell)
    checks = _all(layout.check("*"), layout, read_check)
    rooflines = [read_roofline(layout.roofline)] if layout.roofline.exists() else []
    counted = _all(layout.dram("*"), layout, read_dram)
    every: list[Record[Model]] = [*cells, *checks, *rooflines, *counted]
    if not every:
        raise RecordError(f"{results}: no records, expected {layout.cell(BACKEND, CONTEXT)}; run `snakemake` first")
    confidence = GateSettings().confidence
    return Frames(
        records=pd.DataFrame([_row(record) for record in every]),
        cells=pd.DataFrame([flat(each) for each in summarise(cells, confidence)], columns=list(SUMMARY.names)),
        repetitions=_stacked([cell.rows.assign(backend=cell.backend) for cell in cells]),
        checks=_stacked([rows.assign(candidate=each.backend) for each in checks for rows in (each.rows, each.corners)]),
        roofline=_stacked([record.rows for record in rooflines]),
        dram=pd.DataFrame([row for record in counted if record.ok for row in _counted(record)]),
    )


def _all(pattern: Path, layout: Layout, read: Callable[[Path], T]) -> list[T]:
    return [read(path) for path in sorted(layout.root.glob(str(pattern.relative_to(layout.root))))]


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _row(record: Record[Model]) -> dict[str, object]:
    about = record.provenance
    return {
        "name": record.name,
        "backend": record.backend,
        "S": record.S if isinstance(record, Cell) else None,
        "status": record.status,
        "reason": record.reason,
        "fix": record.fix,
        "device": record.device.name if record.device else None,
        "git_commit": about.git_commit if about else None,
        "utc_time": about.utc_time if about else None,
    }


def _counted(record: Record[DramFacts]) -> list[dict[str, object]]:
    return [
        {"backend": record.backend, **asdict(found.shape), **found.model_dump(exclude={"shape", "kernels"})}
        for found in record.facts.shapes
    ]
