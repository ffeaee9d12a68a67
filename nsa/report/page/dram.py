"""The DRAM bytes that the hardware counted for each backend's kernel, beside the bytes expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from nsa.report.analysis.dram import FIGURES, SIZES
from nsa.report.analysis.read import Record
from nsa.report.page.tables import Table, significant
from nsa.report.verdict.gates import status_words

HEADER = ("backend", "N", "h", "D", "Dv", "n", "kernels", "expected MB", "read MB", "written MB", "counted / expected")


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
        return status_words({"status": record.status, "reason": record.reason}), record.fix or ""

    lines = []
    for (words, fix), group in groupby(sorted((r for r in found if r.status != "ok"), key=key), key):
        backends = ", ".join(f"`{record.backend}`" for record in group)
        lines.append(f"{backends}: {words}." + (f" Fix: {fix}." if fix else ""))
    return lines
