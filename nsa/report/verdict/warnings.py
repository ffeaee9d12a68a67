"""The warnings that run by themselves: spread, clocks, and cells that say little (docs/verdicts.md#automatic-checks).

On a CPU only the spread is looked at: the others are about a GPU's clocks, launches and verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsa.records.facts import Replicate, TimedFacts
from nsa.records.words import CONTROLS, EMPTY
from nsa.report.analysis.read import Cell, Record, primary_rows
from nsa.report.analysis.stats import Estimate, interval
from nsa.report.analysis.summary import CellFigures
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import WARNING

FALSE_ALARMS = 0.05  # of sound cells that a warning may call unsound, over all its series together
SPREAD = 0.02  # IQR over median
IQR_ERROR = 1.17  # the relative standard error of a normal sample's IQR is this over the root of its size
CLOCK_SPREAD = 0.02  # (max - min) over median of the SM clock
TREND = 0.02  # drift over a block, relative
PARTS_GAP = 0.05  # of ms_total, that the parts may miss it by
HOST_BOUND = 2.0  # eager wall time over device time, both warm
NEAR_EMPTY = 3.0  # times the empty graph
MIN_CLUSTER = 0.2  # of the repetitions: what makes a second mode
MIN_CLUSTER_SIZE = 5


def warning_checks(cell: Cell, figures: CellFigures) -> list[Check]:
    """The warnings of a cell that ran."""
    values, replicates = primary_rows(cell), cell.facts.replicates
    alike = series(values)
    if not cell.on_cuda:
        return [spread(cell.name, alike)]
    checks = [
        spread(cell.name, alike),
        bimodality(cell.name, alike),
        clock_spread(cell.name, values, replicates),
        trend(cell.name, values),
        other_processes(cell),
        parts_do_not_add_up(cell.name, figures),
        selects_everything(cell.name, figures),
        host_bound(cell.name, figures),
        near_empty_graph(cell.name, figures),
    ]
    return [check for check in checks if check is not None]


def series(values: pd.DataFrame) -> list[NDArray[np.float64]]:
    """The times of arm all that should be alike: those of one process and one kind of step, ascending."""
    groups = values[values["arm"] == "all"].groupby(["process", "emits"])["value_ns"]
    return [np.sort(part.to_numpy(float)) for _, part in groups]


def iqr(times: NDArray[np.float64]) -> float:
    """The interquartile range."""
    return float(np.subtract(*np.percentile(times, [75, 25])))


def spread(name: str, alike: Sequence[NDArray[np.float64]]) -> Check:
    """IQR over median of arm all in its worst process, beyond what chance makes the worst of so many."""
    from scipy.special import ndtri  # here, as in nsa.report.analysis.stats

    worst = max(iqr(times) / float(np.median(times)) for times in alike)
    chance = float(ndtri(1 - FALSE_ALARMS / len(alike))) * IQR_ERROR / math.sqrt(min(map(len, alike)))
    limit = SPREAD * (1 + chance)
    message = f"IQR over median is {worst:.1%} in the worst process ({SPREAD:.0%} allowed, {limit:.1%} with chance)"
    return Check("spread", WARNING, name, worst, limit, message, worst > limit)


def bimodality(name: str, alike: Sequence[NDArray[np.float64]]) -> Check:
    """Two clusters of arm all in one process: a gap wider than either side's IQR and than the spread's threshold."""
    worst = max(modes_gap(times) for times in alike)
    message = f"two clusters, {worst:.1%} of the median apart" if worst else "one cluster in every process"
    return Check("bimodality", WARNING, name, worst, SPREAD, message, worst > SPREAD)


def modes_gap(ordered: NDArray[np.float64]) -> float:
    """The gap between two clusters over the median; 0 where there is one cluster."""
    edge = max(MIN_CLUSTER_SIZE, math.ceil(MIN_CLUSTER * len(ordered)))  # at least this many on either side
    steps = np.diff(ordered)[edge - 1 : len(ordered) - edge]
    if len(steps) == 0:
        return 0.0
    cut = edge + int(steps.argmax())
    within = max(iqr(side) for side in (ordered[:cut], ordered[cut:]))
    gap = float(steps.max())
    return gap / float(np.median(ordered)) if gap > within else 0.0


def clock_spread(name: str, values: pd.DataFrame, replicates: Sequence[Replicate]) -> Check | None:
    """How far the SM clock moved, in the repetitions and at any time in their processes; none where it was not read."""
    clocks = values["sm_clock_mhz"].dropna().astype(float)
    extremes = [clock for each in replicates for clock in (each.sm_clock_min_mhz, each.sm_clock_max_mhz)]
    seen = pd.concat([clocks, pd.Series([clock for clock in extremes if clock is not None], dtype=float)])
    if seen.empty:
        return None
    usual = clocks.median() if len(clocks) else seen.median()
    ratio = float((seen.max() - seen.min()) / usual)
    message = f"the SM clock went from {seen.min():.0f} to {seen.max():.0f} MHz"
    return Check("clock_spread", WARNING, name, ratio, CLOCK_SPREAD, message, ratio > CLOCK_SPREAD)


def trend(name: str, values: pd.DataFrame) -> Check:
    """Whether an arm is slower the later in a block it comes; its place differs at random between the blocks.

    One slope per process, as times that follow each other are not independent.
    """
    turns = values[~values["arm"].isin((EMPTY, *CONTROLS))].groupby(["process", "arm", "emits", "block"])
    places = turns["order"].median().unstack("block")  # [(process, arm, emits), block]
    times = turns["value_ns"].median().unstack("block")
    late = places.sub(places.mean(axis=1), axis=0)
    slow = times.div(times.mean(axis=1), axis=0) - 1
    xy, xx = ((late * other).sum(axis=1).groupby(level="process").sum() for other in (slow, late))
    slopes = (xy / xx).dropna()  # a process with one place for every arm has no slope
    span = float(places.max().max() - places.min().min())
    drift = interval(span * slopes, 1 - FALSE_ALARMS) if len(slopes) else Estimate(0.0, -math.inf, math.inf, 0)
    message = f"times drift by {drift.value:+.1%} from the first to the last position of a block"
    fired = abs(drift.value) > TREND and not drift.low <= 0 <= drift.high
    return Check("trend", WARNING, name, abs(drift.value), TREND, message, fired)


def other_processes(record: Record[TimedFacts]) -> Check:
    """Whether another process computed on the GPU while a record was timed."""
    pids = record.facts.other_processes
    message = f"processes {', '.join(map(str, pids))} were on the GPU, too" if pids else "no other process was seen"
    return Check("other_processes", WARNING, record.name, float(len(pids)), 0.0, message, bool(pids))


def parts_do_not_add_up(name: str, figures: CellFigures) -> Check:
    """The sum of the parts against the total: what is missing is beyond its interval, and a notable share."""
    missing = figures.arms.ms_interaction
    share = missing.value / figures.arms.ms_total.value
    fired = abs(share) > PARTS_GAP and not missing.low <= 0 <= missing.high
    shown = f"{missing.value:+.3g} ms [{missing.low:+.3g}, {missing.high:+.3g}], {share:+.1%} of it"
    message = f"the total is the sum of the parts {shown}{', so their shares do not add up' if fired else ''}"
    return Check("parts_do_not_add_up", WARNING, name, abs(share), PARTS_GAP, message, fired)


def selects_everything(name: str, figures: CellFigures) -> Check:
    """S ≤ n·l': every block is selected, so the share says little about selection."""
    S, limit = figures.S, figures.geometry.sel_count * figures.geometry.sel_block
    fired = limit >= S
    message = f"selection takes every token up to n·l' = {limit}: the share says little"
    message = message if fired else f"S = {S} is beyond n·l' = {limit}"
    return Check("selects_everything", WARNING, name, float(S), float(limit), message, fired)


def host_bound(name: str, figures: CellFigures) -> Check | None:
    """Eager wall time far above the device time: what a user without CUDA graphs sees is the host."""
    eager, warm = figures.ms_eager, figures.ms_total_warm
    if eager is None or warm is None:
        return None
    message = f"eager wall time is {eager:.3g} ms, device time {warm:.3g} ms (warm)"
    return Check("host_bound", WARNING, name, eager / warm, HOST_BOUND, message, eager > HOST_BOUND * warm)


def near_empty_graph(name: str, figures: CellFigures) -> Check | None:
    """A step within a few times the empty graph measures the method as much as itself."""
    empty, total = figures.empty_ms, figures.arms.ms_total.value
    if empty is None:
        return None
    message = f"the step takes {total:.3g} ms, an empty graph {empty:.3g} ms"
    return Check("near_empty_graph", WARNING, name, total, NEAR_EMPTY * empty, message, total < NEAR_EMPTY * empty)
