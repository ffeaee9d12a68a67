"""The DRAM bytes that the hardware counted for each backend's kernel, beside the bytes expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from nsa.records.dram import CountedShape, DramFacts
from nsa.records.merge import Model
from nsa.report.analysis.read import Record
from nsa.report.page.tables import Table, significant
from nsa.report.verdict.gates import outcome_words

HEADER = ("backend", "N", "h", "D", "Dv", "n", "kernels", "expected MB", "read MB", "written MB", "counted / expected")


@dataclass(frozen=True)
class Absent:
    """A backend without figures: why, in words, and what to do about it."""

    backend: str
    words: str
    fix: str | None


def dram_table(found: Sequence[Record[DramFacts]]) -> Table:
    """One line per backend and shape of the records that counted."""
    lines = []
    for record in found:
        for shape in record.facts.shapes if record.ok else ():
            megabytes = (
                significant(count / 1e6) for count in (shape.bytes_expected, shape.bytes_read, shape.bytes_written)
            )
            sizes = map(str, shape.shape.sizes)
            lines.append((record.backend, *sizes, kernels(shape), *megabytes, significant(shape.ratio)))
    return Table(HEADER, tuple(lines))


def kernels(shape: CountedShape) -> str:
    """How many kernels were profiled, and the name of the one that moved most."""
    moved = max(shape.kernels, key=lambda kernel: kernel.bytes_read + kernel.bytes_written)
    count = len(shape.kernels)
    return moved.name if count == 1 else f"{count}, most by {moved.name}"


def absent(found: Iterable[Record[Model]]) -> list[Absent]:
    """The records without figures."""
    return [Absent(record.backend, outcome_words(record), record.fix) for record in found if not record.ok]


def not_counted(found: Iterable[Absent]) -> list[str]:
    """Why nothing was counted: one line for all the backends that share a reason."""

    def key(each: Absent) -> tuple[str, str]:
        return each.words, each.fix or ""

    lines = []
    for (words, fix), group in groupby(sorted(found, key=key), key):
        backends = ", ".join(f"`{each.backend}`" for each in group)
        lines.append(f"{backends}: {words}." + (f" Fix: {fix}." if fix else ""))
    return lines
