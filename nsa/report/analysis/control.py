"""The control of a record: times of the harness's own work, which only the machine moves (docs/timing.md)."""

from __future__ import annotations

import pandas as pd

from nsa.records.facts import TimedFacts
from nsa.records.shapes import AXES, CORE_AXES
from nsa.records.words import CONTROLS
from nsa.report.analysis.read import Cell, Record


def key_of(record: Record[TimedFacts]) -> str:
    """The column that names what a row is a time of."""
    return "arm" if isinstance(record, Cell) else "backend"


def axes_of(record: Record[TimedFacts]) -> tuple[str, ...]:
    """The columns that name a shape in a check of kernels, or of cores."""
    return CORE_AXES if record.facts.contract == "core" else AXES


def series_of(record: Record[TimedFacts]) -> tuple[str, ...]:
    """The columns that name what should take equally long in every process."""
    return ("arm", "emits") if isinstance(record, Cell) else ("backend", *axes_of(record))


def controlled(record: Record[TimedFacts]) -> pd.DataFrame:
    """The median of each process, ns [process, control]; no columns where none was timed, as on a CPU.

    Of a core check it is that of the shape where it is smallest: on some shapes, the same in every process, a train of
    small launches takes 1.6 times as long, whatever the machine does (docs/core_check.md).
    """
    key = key_of(record)
    rows = record.rows[record.rows[key].isin(CONTROLS) & record.rows["value_ns"].notna()]
    if record.ok and record.facts.contract == "core":
        by_shape = rows.groupby(["process", key, *axes_of(record)])["value_ns"].median()
        return by_shape.groupby(level=["process", key]).min().unstack(key)
    return rows.groupby(["process", key])["value_ns"].median().unstack(key)
