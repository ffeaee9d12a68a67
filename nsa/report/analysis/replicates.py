"""What the processes of a record say of each other, over all arms of a cell or all shapes of a check."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from nsa.records.facts import TimedFacts
from nsa.records.words import AGAIN, CONTROLS, EMPTY
from nsa.report.analysis.control import axes_of
from nsa.report.analysis.read import Cell, Record, primary_rows
from nsa.report.analysis.stats import Estimate, log_interval, process_times, rounding


def medians(record: Record[TimedFacts]) -> pd.DataFrame:
    """The median of each process in ns [(backend, shape), process], of everything but the control that it timed."""
    timed = record.rows[record.rows["value_ns"].notna() & ~record.rows["backend"].isin(CONTROLS)]
    return timed.groupby(["backend", *axes_of(record), "process"])["value_ns"].median().unstack("process")


def again_ratio(record: Record[TimedFacts], confidence: float) -> Estimate | None:
    """The A/A ratio of a check's kernel: in each process the geometric mean over the shapes, then over the processes.

    None where the kernel was not timed a second time.
    """
    times = medians(record)
    names = times.index.get_level_values("backend")
    if record.backend not in names or AGAIN + record.backend not in names:
        return None
    again, first = (pd.DataFrame(times.xs(name, level="backend")) for name in (AGAIN + record.backend, record.backend))
    timed = (
        record.rows[record.rows["value_ns"].notna()].groupby(["backend", *axes_of(record)])["value_ns"].apply(rounding)
    )
    least = sum(float(timed[name].mean()) for name in (AGAIN + record.backend, record.backend))  # were all shapes alike
    known = (again / first).map(math.log).mean(axis=0).dropna()  # over the shapes that the process timed twice
    return log_interval(known.map(math.exp), confidence, least) if len(known) else None


@dataclass(frozen=True)
class Pace:
    """How one process timed one kernel (geometric mean over the shapes) or arm: over the median of the processes."""

    ratio: float  # 1.0 is alike, 2.0 is twice as slow
    timed: str  # as in the record's rows: a variant, or a kernel timed again, too; "arm sel"
    process: int


def paces(record: Record[TimedFacts]) -> list[Pace]:
    """The pace of every process on every kernel that an ok check timed; empty where it timed nothing."""
    times = medians(record)
    relative = times.div(times.median(axis=1), axis=0).map(math.log).groupby(level="backend").mean()
    return [
        Pace(math.exp(ratio), str(backend), int(str(process)))
        for process, column in relative.items()
        for backend, ratio in column.dropna().items()
    ]


def cell_paces(cell: Cell) -> list[Pace]:
    """The pace of every process on every arm of an ok cell."""
    times = process_times(primary_rows(cell), cell.facts.emit_weight).drop(columns=[EMPTY, *CONTROLS], errors="ignore")
    return [
        Pace(float(ratio), f"arm {arm}", int(str(process)))
        for arm, column in (times / times.median()).items()
        for process, ratio in column.dropna().items()
    ]
