"""Read the DRAM stage's records: the bytes that the hardware counted, beside the bytes expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nsa.errors import RecordError
from nsa.records import files, parquet
from nsa.report.analysis.read import Record, Stamps, judge, require_identity

SIZES = ("rows", "heads_per_group", "head_dim", "value_dim", "sel_count")
FIGURES = ("bytes_expected", "bytes_read", "bytes_written", "bytes_counted", "ratio")
KERNEL_FIGURES = ("bytes_read", "bytes_written")


def read_dram(path: Path, stamps: Stamps | None = None) -> Record:
    """Read `dram_{backend}.json`, its shapes in the facts; a fault becomes the record's status.

    Raises:
        RecordError: the path does not name a backend.
    """
    backend = path.stem.removeprefix("dram_")
    if backend == path.stem:
        raise RecordError(f"{path}: the name says no backend; expected dram_{{backend}}.json")
    try:
        facts = files.read_json(path)
        version = {"schema_version": parquet.SCHEMA_VERSION}
        require_identity(path, facts, {**version, "stage": "dram", "backend": backend})
        if facts["status"] == "ok":
            require_counted(path, facts)
    except RecordError as error:
        return Record(backend, "invalid", str(error), f"delete {path} and rerun")
    status, reason, fix = judge(facts, f"dram-{backend}", path, stamps)
    return Record(backend, status, reason, fix, facts)


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
