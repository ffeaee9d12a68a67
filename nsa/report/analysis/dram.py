"""Read the DRAM stage's records: the bytes that the hardware counted, beside the bytes expected."""

from __future__ import annotations

import math
from pathlib import Path

from nsa.errors import RecordError
from nsa.layout import backend_of
from nsa.records import files
from nsa.records.dram import CountedShape, DramFacts
from nsa.records.outcome import Header, Ok
from nsa.report.analysis.read import Record, Stamps, invalid, judged
from nsa.report.analysis.validate import require_device, require_identity


def read_dram(path: Path, stamps: Stamps | None = None) -> Record[DramFacts]:
    """Read `dram_{backend}.json`; a fault becomes the record's outcome.

    Raises:
        RecordError: the path does not name a backend.
    """
    backend = backend_of(path)
    if backend is None:
        raise RecordError(f"{path}: the name says no backend; expected dram_{{backend}}.json")
    name = f"dram_{backend}"
    try:
        header = files.read_model(path, Header[DramFacts])
        require_identity(path, header, "dram", backend)
        if isinstance(header.outcome, Ok):
            require_device(path, header.device, header.outcome.facts.device)
            require_counted(path, header.outcome.facts)
    except RecordError as error:
        return Record(backend, name, invalid(path, error))
    return judged(backend, name, f"dram-{backend}", header, path, stamps)


def require_counted(path: Path, facts: DramFacts) -> None:
    """Raise a RecordError unless a record that says ok has counted shapes, each with its figures and kernels."""
    if not facts.shapes:
        raise RecordError(f"{path}: status ok, but it has no counted shapes; delete it and rerun")
    for shape in facts.shapes:
        require_figures(path, shape)


def require_figures(path: Path, shape: CountedShape) -> None:
    """Raise a RecordError unless the figures of a counted shape are finite numbers of at least 0."""
    figures = {
        "bytes_expected": shape.bytes_expected,
        "bytes_read": shape.bytes_read,
        "bytes_written": shape.bytes_written,
        "ratio": shape.ratio,
    }
    figures |= {f"bytes_read of {kernel.name}": kernel.bytes_read for kernel in shape.kernels}
    figures |= {f"bytes_written of {kernel.name}": kernel.bytes_written for kernel in shape.kernels}
    for key, value in figures.items():
        if not 0 <= value < math.inf:
            raise RecordError(f"{path}: {key} is {value!r}, expected a number of at least 0; delete it and rerun")
    if not shape.kernels:
        raise RecordError(f"{path}: a shape names no kernels that were counted; delete it and rerun")
