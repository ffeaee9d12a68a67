"""The control of a record: times of the harness's own work, which only the machine moves (docs/timing.md)."""

from __future__ import annotations

import pandas as pd

from nsa.records.facts import TimedFacts
from nsa.records.shapes import AXES, CORE_AXES
from nsa.records.words import CONTROLS, TRAIN
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
    """The time of the control in each process, ns [process, control]; no columns where none was timed, as on a CPU.

    That of the copy is its median; that of the train is its median in the block and on the shape where it is smallest:
    in some blocks, on the same machine, it takes 1.6 times as long while nothing beside it does (docs/timing.md).
    """
    key = key_of(record)
    rows = record.rows[record.rows[key].isin(CONTROLS) & record.rows["value_ns"].notna()]
    shape = () if isinstance(record, Cell) else axes_of(record)
    found = rows.groupby(["process", key])["value_ns"].median().unstack(key)
    trains = rows[rows[key] == TRAIN].groupby(["process", "block", *shape])["value_ns"].median()
    return found if trains.empty else found.assign(**{TRAIN: trains.groupby(level="process").min()})
