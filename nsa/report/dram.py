"""The DRAM bytes that the hardware counted for each backend's kernel, beside the bytes expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from nsa import records
from nsa.errors import RecordError
from nsa.report.cells import Record, Stamps, judge, require_identity
from nsa.report.gates import status_words
from nsa.report.tables import Table, significant

SIZES = ("rows", "heads_per_group", "head_dim", "value_dim", "sel_count")
FIGURES = ("bytes_expected", "bytes_read", "bytes_written", "bytes_counted", "ratio")
KERNEL_FIGURES = ("bytes_read", "bytes_written")
HEADER = ("backend", "N", "h", "D", "Dv", "n", "kernels", "expected MB", "read MB", "written MB", "counted / expected")


def read_dram(path: Path, stamps: Stamps | None = None) -> Record:
    """Read `dram_{backend}.json`, its shapes in the facts; a fault becomes the record's status.

    Raises:
        RecordError: the path does not name a backend.
    """
    backend = path.stem.removeprefix("dram_")
    if backend == path.stem:
        raise RecordError(f"{path}: the name says no backend; expected dram_{{backend}}.json")
    try:
        facts = records.read_json(path)
        version = {"schema_version": records.SCHEMA_VERSION}
        require_identity(path, facts, {**version, "stage": "dram", "backend": backend})
        if facts["status"] == "ok":
            require_counted(path, facts)
    except RecordError as error:
        return Record(backend, "invalid", str(error), f"delete {path} and rerun")
    status, reason, mend = judge(facts, f"dram-{backend}", path, stamps)
    return Record(backend, status, reason, mend, facts)


def require_counted(path: Path, facts: Mapping[str, Any]) -> None:
    """Raise a RecordError unless a record that says ok has counted shapes, each with its sizes, figures and kernels."""
    counted = facts.get("shapes")
    if not isinstance(counted, list) or not counted:
        raise RecordError(f"{path}: status ok, but it has no counted shapes; delete it and rerun")
    for shape in counted:
        require_numbers(path, shape, (*SIZES, *FIGURES))
        if not isinstance(shape.get("kernels"), list) or not shape["kernels"]:
            raise RecordError(f"{path}: a shape names no kernels that were counted; delete it and rerun")
        for kernel in shape["kernels"]:
            require_numbers(path, kernel, KERNEL_FIGURES)


def require_numbers(path: Path, found: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise a RecordError unless each of these is a finite number of at least 0."""
    for key in keys:
        value = found.get(key)
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise RecordError(f"{path}: {key} is {value!r}, expected a number of at least 0; delete it and rerun")


def dram_table(found: Sequence[Record]) -> Table:
    """One line per backend and shape of the records that counted."""
    lines = []
    for record in found:
        for shape in record.facts["shapes"] if record.status == "ok" else ():
            sizes = (str(shape[size]) for size in SIZES)
            megabytes = (significant(shape[figure] / 1e6) for figure in FIGURES[:3])
            lines.append((record.backend, *sizes, kernels(shape), *megabytes, significant(shape["ratio"])))
    return Table(HEADER, tuple(lines))


def kernels(shape: Mapping[str, Any]) -> str:
    """How many kernels were profiled, and the name of the one that moved most."""
    moved = max(shape["kernels"], key=lambda kernel: kernel["bytes_read"] + kernel["bytes_written"])
    count = len(shape["kernels"])
    return moved["name"] if count == 1 else f"{count}, most by {moved['name']}"


def not_counted(found: Sequence[Record]) -> list[str]:
    """Why nothing was counted: one line for all the backends that share a reason."""

    def key(record: Record) -> tuple[str, str]:
        return status_words({"status": record.status, "reason": record.reason}), record.mend or ""

    lines = []
    for (words, mend), group in groupby(sorted((r for r in found if r.status != "ok"), key=key), key):
        backends = ", ".join(f"`{record.backend}`" for record in group)
        lines.append(f"{backends}: {words}." + (f" Mend: {mend}." if mend else ""))
    return lines
