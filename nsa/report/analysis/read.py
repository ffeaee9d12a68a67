"""Read the records of the stages, and say which of them may be used: ok, not run, STALE or INVALID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nsa.errors import RecordError
from nsa.layout import backend_of, cell_of
from nsa.records import parquet, schemas
from nsa.records.decode import DecodeFacts
from nsa.records.facts import CheckFacts, Device, Digests, Provenance
from nsa.records.merge import Model
from nsa.records.outcome import Failed, Header, Invalid, Ok, OutOfMemory, Skipped, Stale, Unavailable
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.validate import (
    require_cell,
    require_columns,
    require_constant,
    require_device,
    require_identity,
    require_positive,
    require_processes,
)
from nsa.report.analysis.whole import require_errors, require_rates, require_whole_cell, require_whole_check

F = TypeVar("F", bound=Model)
F_co = TypeVar("F_co", bound=Model, covariant=True)  # a record is frozen
Stamps = Mapping[str, Digests]  # today's, by stage


@dataclass(frozen=True)
class Record(Generic[F_co]):
    """One file of a stage, and whether it may be used.

    Attributes:
        backend: of which it is.
        name: how checks and reports call it.
        outcome: as the stage said, or Stale or Invalid as its reader says.
        device: what it was measured on; None, like what follows, when the file cannot be read.
        rows: the table's rows when it is ok, otherwise none.
        corners: of a kernel check, the rows of its corner cases; `rows` are those of the grid.
    """

    backend: str
    name: str
    outcome: Ok[F_co] | Unavailable | Failed | OutOfMemory | Skipped | Stale | Invalid
    device: Device | None = None
    provenance: Provenance | None = None
    stamp: Digests | None = None
    rows: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)
    corners: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False, kw_only=True)

    @property
    def status(self) -> str:
        """Ok, unavailable, oom, failed, skipped, stale or invalid."""
        return self.outcome.status

    @property
    def reason(self) -> str | None:
        """Why it is not ok."""
        return self.outcome.reason

    @property
    def fix(self) -> str | None:
        """What the user can do about it."""
        return self.outcome.fix

    @property
    def ok(self) -> bool:
        """Whether its figures may be used."""
        return isinstance(self.outcome, Ok)

    @property
    def facts(self) -> F_co:
        """What holds for the whole record.

        Raises:
            ValueError: it is not ok, and has none.
        """
        if self.outcome.status == "ok":
            return self.outcome.facts
        raise ValueError(f"{self.name} is {self.status}: only a record that is ok has facts")

    @property
    def on_cuda(self) -> bool:
        """Whether a GPU measured it."""
        return self.device is not None and self.device.kind == "cuda"


@dataclass(frozen=True)
class Cell(Record[DecodeFacts]):
    """The record of one decode cell: a backend at S tokens."""

    S: int = 0

    @classmethod
    def of(cls, header: Header[DecodeFacts], rows: pd.DataFrame) -> Cell:
        """The cell that has just been measured, or that a file holds.

        Raises:
            ValueError: the header is not of a decode cell.
        """
        if header.backend is None or header.S is None:
            raise ValueError(f"a header of stage {header.stage} is not of a decode cell: it names no backend or no S")
        name, ok = cell_name(header.backend, header.S), isinstance(header.outcome, Ok)
        device = header.outcome.facts.device if isinstance(header.outcome, Ok) else header.device
        used = rows if ok else rows[:0]
        return cls(header.backend, name, header.outcome, device, header.provenance, header.stamp, used, header.S)


def cell_name(backend: str, S: int) -> str:
    """The name of a decode cell, like its path under results/decode."""
    return f"{backend}/S{S}"


def check_name(backend: str) -> str:
    """The name of a kernel check, like its path."""
    return f"check_{backend}"


def primary(device: str) -> tuple[str, str]:
    """The mode and cache state whose times are the cell's figures (docs/timing.md)."""
    return ("graph", "cold") if device == "cuda" else ("eager", "warm")


def timed(rows: pd.DataFrame, mode: str, cache_state: str) -> pd.DataFrame:
    """The repetitions of one mode and cache state."""
    return rows[(rows["mode"] == mode) & (rows["cache_state"] == cache_state)]


def primary_rows(cell: Cell) -> pd.DataFrame:
    """The repetitions of an ok cell whose times are its figures."""
    return timed(cell.rows, *primary(cell.facts.device.kind))


def read_cell(path: Path, stamps: Stamps | None = None) -> Cell:
    """Read `…/{backend}/S{S}.parquet`; a fault becomes the cell's outcome, so that one bad file hides no other.

    Args:
        path: the record.
        stamps: today's digests; None where the caller does not judge whether the record is of today.

    Raises:
        RecordError: the path does not name a backend and an S.
    """
    named = cell_of(path)
    if named is None:
        raise RecordError(f"{path}: the name says no context; expected …/{{backend}}/S{{S}}.parquet")
    backend, S = named
    try:
        table, header = parquet.read(path, Header[DecodeFacts], schemas.REPETITIONS)
        require_identity(path, header, "decode", backend, S)
        rows = to_frame(table)
        if isinstance(header.outcome, Ok):
            facts = header.outcome.facts
            require_device(path, header.device, facts.device)
            require_cell(path, facts, S, rows, *primary(facts.device.kind))
            require_whole_cell(path, rows, facts.reads)
            require_rates(path, facts)
    except RecordError as error:
        return Cell(backend, cell_name(backend, S), invalid(path, error), S=S)
    if stale := stale_since(header.stamp, f"decode-{backend}", path, stamps):
        return Cell(backend, cell_name(backend, S), stale, header.device, header.provenance, header.stamp, S=S)
    return Cell.of(header, rows)


def read_check(path: Path, stamps: Stamps | None = None) -> Record[CheckFacts]:
    """Read `check_{backend}.parquet`; a fault becomes the record's outcome.

    Its rows have one more column, has_result: whether they hold a correctness result.

    Raises:
        RecordError: the path does not name a backend.
    """
    backend = backend_of(path)
    if backend is None:
        raise RecordError(f"{path}: the name says no backend; expected check_{{backend}}.parquet")
    try:
        table, header = parquet.read(path, Header[CheckFacts], schemas.CHECK_REPETITIONS)
        require_identity(path, header, "check", backend)
        every = to_frame(table.append_column("has_result", has_result(table)))
        rows, corners = every[every["case"].isna()], every[every["case"].notna()]
        if isinstance(header.outcome, Ok):
            facts = header.outcome.facts
            require_device(path, header.device, facts.device)
            require_columns(path, rows, {"dtype": facts.dtype})
            require_constant(path, rows)
            require_processes(path, rows, facts.replicates)
            require_positive(path, rows)
            require_errors(path, every, "mae", "oracle_error", "sdpa_oracle_error")
            require_whole_check(path, rows, facts.device.kind == "cuda")
            require_rates(path, facts)
    except RecordError as error:
        return Record(backend, check_name(backend), invalid(path, error))
    found = judged(backend, check_name(backend), f"check-{backend}", header, path, stamps, rows)
    return replace(found, corners=corners) if found.ok else found


def judged(
    backend: str,
    name: str,
    stage: str,
    header: Header[F],
    path: Path,
    stamps: Stamps | None,
    rows: pd.DataFrame | None = None,
) -> Record[F]:
    """A readable record as its header says, stale where its stamp is not today's."""
    about = (header.device, header.provenance, header.stamp)
    if stale := stale_since(header.stamp, stage, path, stamps):
        return Record(backend, name, stale, *about)
    if not isinstance(header.outcome, Ok) or rows is None:
        return Record(backend, name, header.outcome, *about)
    return Record(backend, name, header.outcome, *about, rows)


def invalid(path: Path, error: RecordError) -> Invalid:
    """The outcome of a record that cannot be used."""
    return Invalid(reason=str(error), fix=f"delete {path} and rerun")


def stale_since(then: Digests, stage: str, path: Path, stamps: Stamps | None) -> Stale | None:
    """Why a record is not of today; None when it is, or when nobody asks."""
    if stamps is None:
        return None
    fix = f"run `snakemake {path}`"
    if stage not in stamps:
        return Stale(reason=f"there is no stamp of today for stage {stage}", fix=fix)
    differ = differing(then, stamps[stage])
    return Stale(reason=f"{', '.join(differ)} changed since it was measured", fix=fix) if differ else None


def differing(then: Digests, now: Digests) -> list[str]:
    """Which of sources, settings and machine are not the same."""
    return [name for name in Digests.model_fields if getattr(then, name) != getattr(now, name)]


def has_result(table: pa.Table) -> pa.ChunkedArray:
    """Which rows hold a correctness result; asked of Arrow, where a NaN error is a result and a null is none."""
    return pc.or_(pc.is_valid(table["mae"]), pc.is_valid(table["fault"]))
