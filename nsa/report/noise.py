"""The warnings that run by themselves: noise, clocks, and cells that say little (measurement, "Checks").

On a CPU only the spread is looked at: the others are about a GPU's clocks, launches and verdict.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from nsa.report.cells import Cell, primary, timed
from nsa.report.checks import WARNING, Check
from nsa.report.summary import Row

SPREAD = 0.02  # IQR over median
CLOCK_SPREAD = 0.02  # (max - min) over median of the SM clock
THROTTLE_BITS = 0x4 | 0x8 | 0x20 | 0x40 | 0x80  # NVML: power cap, hardware and thermal slowdowns, power brake
TREND = 0.02  # drift over a block, relative
TREND_T = 4.0  # t statistic of the rank correlation: far beyond chance
HOST_BOUND = 2.0  # eager wall time over device time, both warm
NEAR_EMPTY = 3.0  # times the empty graph
MIN_CLUSTER = 0.2  # of the repetitions: what makes a second mode
MIN_CLUSTER_SIZE = 5


def warning_checks(cell: Cell, row: Row) -> list[Check]:
    """The warnings of a cell that ran."""
    values = timed(cell.rows, *primary(cell.device))
    if cell.device != "cuda":
        return [spread(cell.name, values)]
    checks = [
        spread(cell.name, values),
        bimodality(cell.name, values),
        clock_spread(cell.name, values),
        throttling(cell.name, values),
        trend(cell.name, values),
        selects_everything(cell, row),
        host_bound(cell.name, row),
        near_empty_graph(cell.name, row),
    ]
    return [check for check in checks if check is not None]


def series(values: pd.DataFrame) -> list[pd.Series]:
    """The times of arm all that should be alike: those of one process and one kind of step."""
    return [part["value_ns"] for _, part in values[values["arm"] == "all"].groupby(["process", "emits"])]


def spread(name: str, values: pd.DataFrame) -> Check:
    """IQR over median of arm all, in its worst process."""
    ratios = [float((part.quantile(0.75) - part.quantile(0.25)) / part.median()) for part in series(values)]
    worst = max(ratios)
    message = f"IQR over median is {worst:.1%} in the worst process"
    return Check("spread", WARNING, name, worst, SPREAD, message, worst > SPREAD)


def bimodality(name: str, values: pd.DataFrame) -> Check:
    """Two clusters of arm all in one process: a gap wider than either side's IQR and than the spread's threshold."""
    gaps = [modes_gap(np.sort(part.to_numpy(float))) for part in series(values)]
    worst = max(gaps)
    message = f"two clusters, {worst:.1%} of the median apart" if worst else "one cluster in every process"
    return Check("bimodality", WARNING, name, worst, SPREAD, message, worst > SPREAD)


def modes_gap(ordered: np.ndarray) -> float:
    """The gap between two clusters over the median; 0 where there is one cluster."""
    edge = max(MIN_CLUSTER_SIZE, math.ceil(MIN_CLUSTER * len(ordered)))  # at least this many on either side
    steps = np.diff(ordered)[edge - 1 : len(ordered) - edge]
    if len(steps) == 0:
        return 0.0
    cut = edge + int(steps.argmax())
    within = max(float(np.subtract(*np.percentile(side, [75, 25]))) for side in (ordered[:cut], ordered[cut:]))
    gap = float(steps.max())
    return gap / float(np.median(ordered)) if gap > within else 0.0


def clock_spread(name: str, values: pd.DataFrame) -> Check | None:
    """How far the SM clock moved; no check where it was not read."""
    clocks = values["sm_clock_mhz"].dropna()
    if clocks.empty:
        return None
    ratio = float((clocks.max() - clocks.min()) / clocks.median())
    message = f"the SM clock went from {clocks.min():.0f} to {clocks.max():.0f} MHz"
    return Check("clock_spread", WARNING, name, ratio, CLOCK_SPREAD, message, ratio > CLOCK_SPREAD)


def throttling(name: str, values: pd.DataFrame) -> Check | None:
    """Repetitions under a power cap or a slowdown; no check where the reasons were not read."""
    bits = values["throttle_bits"].dropna().astype("int64")
    if bits.empty:
        return None
    share = float(((bits & THROTTLE_BITS) != 0).mean())
    message = f"{share:.0%} of the repetitions ran under a power cap or a slowdown"
    return Check("throttling", WARNING, name, share, 0.0, message, share > 0)


def trend(name: str, values: pd.DataFrame) -> Check:
    """Whether an arm is slower the later in a block it comes; its place differs at random between the blocks."""
    arm = ["process", "arm", "emits"]
    turns = values[values["arm"] != "empty"].groupby([*arm, "block", "order"])["value_ns"].median().reset_index()
    times, places = turns["value_ns"], turns["order"]
    late = places - places.groupby([turns[key] for key in arm]).transform("mean")
    slow = times / times.groupby([turns[key] for key in arm]).transform("mean") - 1
    drift, t = 0.0, 0.0
    if len(turns) > 2 and late.any() and slow.any():
        drift = float(np.polyfit(late, slow, 1)[0] * (places.max() - places.min()))
        r = float(late.rank().corr(slow.rank()))
        t = abs(r) * math.sqrt((len(turns) - 2) / max(1 - r * r, 1e-12))
    message = f"times drift by {drift:+.1%} from the first to the last position of a block"
    return Check("trend", WARNING, name, abs(drift), TREND, message, abs(drift) > TREND and t > TREND_T)


def selects_everything(cell: Cell, row: Row) -> Check:
    """S ≤ n·l': every block is selected, so the share says little about selection."""
    limit = int(cell.rows["sel_count"].iloc[0]) * int(cell.rows["sel_block"].iloc[0])
    fired = row["S"] <= limit
    message = f"selection takes every token up to n·l' = {limit}: the share says little"
    message = message if fired else f"S = {cell.S} is beyond n·l' = {limit}"
    return Check("selects_everything", WARNING, cell.name, float(row["S"]), float(limit), message, fired)


def host_bound(name: str, row: Row) -> Check | None:
    """Eager wall time far above the device time: what a user without CUDA graphs sees is the host."""
    eager, warm = row["ms_eager"], row["ms_total_warm"]
    if eager is None or warm is None:
        return None
    message = f"eager wall time is {eager:.3g} ms, device time {warm:.3g} ms (warm)"
    return Check("host_bound", WARNING, name, eager / warm, HOST_BOUND, message, eager > HOST_BOUND * warm)


def near_empty_graph(name: str, row: Row) -> Check | None:
    """A step within a few times the empty graph measures the method as much as itself."""
    empty, total = row["empty_ms"], row["ms_total"]
    if empty is None:
        return None
    message = f"the step takes {total:.3g} ms, an empty graph {empty:.3g} ms"
    return Check("near_empty_graph", WARNING, name, total, NEAR_EMPTY * empty, message, total < NEAR_EMPTY * empty)
