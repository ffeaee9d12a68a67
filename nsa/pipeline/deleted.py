"""A record that was deleted is made again, and the report with it.

Snakemake takes a report for whole while it is newer than what is left of its records. So the report rule takes a note
as an input, which changes whenever something is gone that the last report was made of.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from nsa.config import ARTIFACTS
from nsa.errors import RecordError

NOTE = ".stamps/deleted"
GATE = "gate.json"  # says of which cells the last report was made
REPORT = (GATE, "gate_report.html", "decode.csv", "checks.parquet")  # beside gate_report.md


def note(results: Path) -> None:
    """Change the note when a part of the last report, or a record that it was made of, is gone.

    Raises:
        RecordError: the note cannot be written.
    """
    path = results / NOTE
    gone = [str(record) for record in _last_report(results) if not record.exists()]
    if path.exists() and not gone:
        return
    content = {"deleted": gone, "noticed_ns": time.time_ns() if gone else 0}  # the same may be deleted again
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) + "\n")
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written ({error.strerror}); expected a writable folder with space left"
        ) from error


def _last_report(results: Path) -> Iterator[Path]:
    """The files of the last report and of its records; none where there is no report."""
    if not (results / "gate_report.md").exists():
        return
    yield from (results / name for name in REPORT)
    yield results / "environment.json"
    cells = _cells(results / GATE)
    for backend, S in cells:
        yield results / "decode" / backend / f"S{S}.parquet"
    for backend in dict(cells):
        yield results / f"decode_{backend}.parquet"
        yield results / f"check_{backend}.parquet"
        yield results / f"dram_{backend}.json"
        if backend in ARTIFACTS:
            yield results / ARTIFACTS[backend]


def _cells(gate: Path) -> list[tuple[str, int]]:
    """(backend, S) of every cell in a gate.json; none of one that is not there or cannot be read, see `nsa doctor`."""
    try:
        return [(row["backend"], row["S"]) for row in json.loads(gate.read_bytes())["decode"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
