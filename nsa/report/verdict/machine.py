"""Whether the machine was the same for all that a run timed: its control, its clocks, its processes.

The control is work of the harness's own that every block times (nsa.bench.method.control). Ratios are made inside a
process, where what the machine does to both times cancels. A control that moves by as much as two runs may differ with
no change of code (5 %) says that what is compared was not timed on one machine: then nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nsa.records.facts import TimedFacts
from nsa.records.words import CONTROL, CONTROLS
from nsa.report.analysis.control import controlled, series_of
from nsa.report.analysis.read import Record
from nsa.report.analysis.replicates import Pace
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING, WARNING

MOVED_WARNS, MOVED_BLOCKS = 0.01, 0.05  # of the control, between processes or between records
SLOWER_WARNS = 0.10  # than the median of the processes: the machine was not the same for all of them
SLOWER_BLOCKS = 0.50  # something else was timed in that process
Moves = Mapping[str, pd.DataFrame]  # the control of records, by their names: ns [process, control]
LOWER_CLOCK = 0.02  # than the highest of the record: together with a slowdown it is throttling
THROTTLED_WARNS, THROTTLED_BLOCKS = 0.02, 0.10  # slower than at the high clock


def machine_checks(record: Record[TimedFacts], values: pd.DataFrame, run: Moves) -> list[Check]:
    """What is looked at in every record of a GPU.

    Args:
        values: the repetitions that count.
        run: the control of every record of the run.
    """
    return [fact_missing(record), *control_moved(record, run), *throttled(record, values)]


def fact_missing(record: Record[TimedFacts]) -> Check:
    """What a record of a GPU must say of every process: both bandwidths and the control."""
    facts, processes = record.facts, len(record.facts.replicates)
    rates = (("copy", facts.bandwidth_bytes_per_s), ("read-only", facts.read_bandwidth_bytes_per_s))
    missing = [
        f"the {name} bandwidth of {processes - len(known)} of {processes} processes"
        for name, known in rates
        if len(known) < processes
    ]
    control = controlled(record)
    missing += [f"the {name}" for name in CONTROLS if name not in control or control[name].isna().any()]
    message = f"not recorded: {', '.join(missing)}" if missing else "bandwidth and control are there of every process"
    return Check("fact_missing", BLOCKING, record.name, float(len(missing)), 0.0, message, bool(missing))


def control_moved(record: Record[TimedFacts], run: Moves) -> list[Check]:
    """By how much the control differs between the processes of a record, and from that of the run's other records.

    There is one check of this name: its severity says whether the larger of the two warns or blocks.

    Args:
        run: the control of every record of the run.
    """
    own = run.get(record.name, pd.DataFrame())
    found: list[tuple[float, str]] = []
    for name in own:
        times, shown = own[name].dropna(), str(name).removeprefix(CONTROL)
        low, high = float(times.min()), float(times.max())
        span = (high - low) / float(times.median())
        clause = f"{low / 1e3:.4g} µs in process {times.idxmin()} to {high / 1e3:.4g} in process {times.idxmax()}"
        found.append((span, f"its {shown} went from {clause}, {span:.1%}"))
        typical = {other: typical_ns(each[name]) for other, each in run.items() if name in each}
        usual = float(np.median(list(typical.values())))
        apart = abs(typical[record.name] / usual - 1)
        clause = f"{typical[record.name] / 1e3:.4g} µs, and {usual / 1e3:.4g} in the median record of the run"
        found.append((apart, f"its {shown} took {clause}, {apart:.1%} apart"))
    if not found:
        return []
    moved, said = max(found)
    severity, threshold = (BLOCKING, MOVED_BLOCKS) if moved > MOVED_BLOCKS else (WARNING, MOVED_WARNS)
    message = f"of the control, {said} (more than {MOVED_WARNS:.0%} warns, more than {MOVED_BLOCKS:.0%} blocks)"
    return [Check("control_moved", severity, record.name, moved, threshold, message, moved > MOVED_WARNS)]


def typical_ns(times: pd.Series[float]) -> float:
    """The geometric mean over the processes."""
    return math.exp(np.log(times.dropna()).mean())


def replicates_differ(name: str, paces: Sequence[Pace]) -> list[Check]:
    """Whether one process timed something slower than the others did.

    There is one check of this name: its severity says whether the slowest process warns or blocks.

    Args:
        paces: of every process on everything that counts.
    """
    slowest = max(paces, key=lambda pace: pace.ratio, default=None)
    if slowest is None:
        return []
    slower = slowest.ratio - 1
    severity, threshold = (BLOCKING, SLOWER_BLOCKS) if slower > SLOWER_BLOCKS else (WARNING, SLOWER_WARNS)
    message = (
        f"process {slowest.process} timed {slowest.timed} {slower:.1%} slower than the median of the processes "
        f"(more than {SLOWER_WARNS:.0%} warns, more than {SLOWER_BLOCKS:.0%} blocks)"
    )
    return [Check("replicates_differ", severity, name, slower, threshold, message, slower > SLOWER_WARNS)]


def throttled(record: Record[TimedFacts], values: pd.DataFrame) -> list[Check]:
    """Whether a lower clock made times longer: a clock that moves and costs nothing, or a steady cap, is honest.

    There is one check of this name: its severity says whether the slowest process warns or blocks; none where the clock
    was not read.

    Args:
        values: the repetitions that count.
    """
    known = values[values["value_ns"].notna() & values["sm_clock_mhz"].notna()]
    if known.empty:
        return []
    high = float(known["sm_clock_mhz"].max())
    low = known["sm_clock_mhz"] < (1 - LOWER_CLOCK) * high
    series = [known[column] for column in series_of(record)]
    full = known["value_ns"].where(~low).groupby(series, dropna=False).transform("median")  # at the high clock
    logs = (known["value_ns"] / full).map(math.log)[low].dropna()
    slower = logs.groupby(known["process"]).mean()
    slowed = {
        int(str(process)): math.expm1(log) for process, log in slower.items() if math.expm1(log) > THROTTLED_WARNS
    }
    worst = max(map(math.expm1, slower), default=0.0)
    named = ", ".join(f"process {process} was {by:.1%} slower" for process, by in slowed.items())
    message = f"where its SM clock was below {(1 - LOWER_CLOCK) * high:.0f} MHz, {named}" if named else ""
    message = message or "no process was slower for a lower SM clock"
    severity, threshold = (BLOCKING, THROTTLED_BLOCKS) if worst > THROTTLED_BLOCKS else (WARNING, THROTTLED_WARNS)
    return [Check("throttled", severity, record.name, worst, threshold, message, bool(slowed))]
