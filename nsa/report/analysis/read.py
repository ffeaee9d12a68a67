"""Read the records of the stages, and say which of them may be used: ok, not run, STALE or INVALID."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nsa.errors import RecordError
from nsa.records import parquet, schemas

Stamps = Mapping[str, Mapping[str, str]]  # stage name -> {sources, settings, machine} digests of today
STAMP_KEYS = ("sources", "settings", "machine")
PARTS = ("cmp", "sel", "win")
ARMS = ("none", "cmp", "cmp_route", "sel", "win", "all", "all_without_sel", "all_again")  # what every cell must time
OK_FACTS = ("device", "emit_weight", "reads", "bytes_read", "outputs_finite")  # what every cell that ran must say


@dataclass(frozen=True)
class Record:
    """One file of a stage, and whether it may be used.

    Attributes:
        status: ok, unavailable, oom or failed as the stage said; stale or invalid as the reader says.
        reason, fix: why it is not ok, and what the user can do about it.
        facts: what holds for the whole file; empty when it cannot be read.
        rows: the table's rows when the status is ok, otherwise none.
    """

    backend: str
    status: str
    reason: str | None = None
    fix: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)

    @property
    def device(self) -> str | None:
        """cpu or cuda; None when the record cannot be read."""
        return self.facts.get("device")

    @property
    def name(self) -> str:
        """How checks and reports call the record."""
        return f"check_{self.backend}"


@dataclass(frozen=True)
class Cell(Record):
    """The record of one decode cell: a backend at S tokens."""

    S: int = 0

    @property
    def name(self) -> str:
        """How checks and reports call the cell."""
        return cell_name(self.backend, self.S)


def cell_name(backend: str, S: int) -> str:
    """The name of a decode cell, like its path under results/decode."""
    return f"{backend}/S{S}"


def primary(device: str | None) -> tuple[str, str]:
    """The mode and cache state whose times are the cell's figures (measurement, "Timing")."""
    return ("graph", "cold") if device == "cuda" else ("eager", "warm")


def timed(rows: pd.DataFrame, mode: str, cache_state: str) -> pd.DataFrame:
    """The repetitions of one mode and cache state."""
    return rows[(rows["mode"] == mode) & (rows["cache_state"] == cache_state)]


def read_cell(path: Path, stamps: Stamps | None = None) -> Cell:
    """Read `…/{backend}/S{S}.parquet`; a fault becomes the cell's status, so that one bad file hides no other.

    Args:
        path: the record.
        stamps: today's digests; None where the caller does not judge whether the record is of today.

    Raises:
        RecordError: the path does not name a backend and an S.
    """
    match = re.fullmatch(r"S(\d+)", path.stem)
    if match is None:
        raise RecordError(f"{path}: the name says no context; expected …/{{backend}}/S{{S}}.parquet")
    backend, S = path.parent.name, int(match[1])
    try:
        table, facts = parquet.read(path, schemas.REPETITIONS)
        require_identity(path, facts, {"stage": "decode", "backend": backend, "S": S})
        rows = table.to_pandas()
        if facts["status"] == "ok":
            require_complete(path, facts, rows)
    except RecordError as error:
        return Cell(backend, "invalid", str(error), f"delete {path} and rerun", S=S)
    status, reason, fix = judge(facts, f"decode-{backend}", path, stamps)
    return Cell(backend, status, reason, fix, facts, rows if status == "ok" else rows[:0], S=S)


def read_check(path: Path, stamps: Stamps | None = None) -> Record:
    """Read `check_{backend}.parquet`; a fault becomes the record's status.

    Raises:
        RecordError: the path does not name a backend.
    """
    backend = path.stem.removeprefix("check_")
    if backend == path.stem:
        raise RecordError(f"{path}: the name says no backend; expected check_{{backend}}.parquet")
    try:
        table, facts = parquet.read(path, schemas.CHECK_REPETITIONS)
        require_identity(path, facts, {"stage": "check", "backend": backend})
    except RecordError as error:
        return Record(backend, "invalid", str(error), f"delete {path} and rerun")
    status, reason, fix = judge(facts, f"check-{backend}", path, stamps)
    rows = table.append_column("has_result", has_result(table)).to_pandas()
    return Record(backend, status, reason, fix, facts, rows if status == "ok" else rows[:0])


def has_result(table: pa.Table) -> pa.ChunkedArray:
    """Which rows hold a correctness result; asked of Arrow, where a NaN error is a result and a null is none."""
    return pc.or_(pc.is_valid(table["mae"]), pc.is_valid(table["fault"]))


def require_identity(path: Path, facts: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a RecordError unless the file says that it is what its path says, with a status."""
    for key, value in expected.items():
        if facts.get(key) != value:
            raise RecordError(f"{path}: {key} is {facts.get(key)!r}, expected {value!r}; delete it and rerun")
    if not isinstance(facts.get("status"), str):
        raise RecordError(f"{path}: status is {facts.get('status')!r}, expected a word; delete it and rerun")


def require_complete(path: Path, facts: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Raise a RecordError unless an ok cell has its facts, and every process timed every arm in the primary mode."""
    missing = [key for key in OK_FACTS if facts.get(key) is None]
    if missing:
        raise RecordError(f"{path}: status ok, but lacks the facts {', '.join(missing)}; rerun the cell")
    mode, cache_state = primary(facts["device"])
    values = timed(rows, mode, cache_state)
    counts = values.groupby(["process", "arm", "emits"])["value_ns"].count().unstack(["arm", "emits"], fill_value=0)
    for arm in ARMS:
        if arm not in counts.columns.unique("arm"):
            raise RecordError(f"{path}: status ok, but arm {arm!r} has no {mode}/{cache_state} times; rerun the cell")
        for process in counts.index[(counts[arm].to_numpy() == 0).any(axis=1)]:
            raise RecordError(f"{path}: process {process} lacks {mode}/{cache_state} times of arm {arm!r}; rerun")
    smallest = values["value_ns"].min()
    if smallest <= 0:
        raise RecordError(f"{path}: a value_ns is {smallest}, expected a positive time; rerun the cell")


def judge(
    facts: Mapping[str, Any], stage: str, path: Path, stamps: Stamps | None
) -> tuple[str, str | None, str | None]:
    """The status, reason and fix of a readable record: stale when its stamp is not today's."""
    if stamps is None:
        return facts["status"], facts.get("reason"), facts.get("fix")
    today, then = stamps.get(stage), facts.get("stamp") or {}
    if today is None:
        return "stale", f"there is no stamp of today for stage {stage}", f"run `snakemake {path}`"
    differ = [key for key in STAMP_KEYS if today.get(key) != then.get(key)]
    if differ:
        return "stale", f"{', '.join(differ)} changed since it was measured", f"run `snakemake {path}`"
    return facts["status"], facts.get("reason"), facts.get("fix")
