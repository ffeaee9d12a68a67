"""Times of two runs compared relative to the control, which both of them timed (docs/ci.md#the-accepted-run).

Two runs of one commit may differ by 5 % in everything that they time; the control then differs as well. Its two
workloads, launches and a copy, need not move alike, nor need a step be like either. So a time is compared relative to
each, and the interval spans what both say: slower is only what is slower than either of them makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nsa.records.shapes import AXES
from nsa.records.words import CONTROL, CONTROLS
from nsa.report.accepted.keep import CHECK, DECODE
from nsa.report.analysis.stats import NS_PER_MS, Change, Estimate, judged, ratio_of, rounding

Fixed = Mapping[str, "pd.Series[float]"]  # the control's times beside it, by the workload's name; empty on a CPU


def has_control(times: pd.DataFrame) -> bool:
    """Whether rows of MEDIANS have the control, all of it: that of an earlier version has other names."""
    return set(CONTROLS) <= set(times["arm"])


def step_times(times: pd.DataFrame, arm: str = "all") -> dict[tuple[str, int], pd.Series[float]]:
    """T(arm) of each decode cell, (backend, S), one time per process."""
    steps = times[(times["kind"] == DECODE) & (times["arm"] == arm)].astype({"S": int}).set_index("process")
    cells = steps.groupby(["backend", "S"], sort=False)["time_ms"]
    return {(str(backend), int(str(S))): each.dropna() for (backend, S), each in cells}


def shape_times(times: pd.DataFrame, backend: str, control: str | None = None) -> pd.DataFrame:
    """The times of a kernel check, or of the control beside it: a row per process and a column per shape."""
    wanted = times["arm"].isna() if control is None else times["arm"] == control
    rows = times[(times["kind"] == CHECK) & (times["backend"] == backend) & wanted]
    return rows.pivot(index="process", columns=list(AXES), values="time_ms")


def geometric_mean(times: pd.DataFrame) -> pd.Series[float]:
    """Over the shapes, of the processes that timed them all."""
    return np.exp(np.log(times.dropna()).mean(axis=1))


def typical(times: pd.Series[float]) -> float:
    """The geometric mean over the processes."""
    return math.exp(np.log(times).mean())


def relative_change(
    before: pd.Series[float], now: pd.Series[float], control: Sequence[Fixed], confidence: float
) -> Change:
    """How a time changed between two runs, relative to the control of each; as it is where there is none, on a CPU.

    Args:
        before, now: of the accepted run and of today's, in ms by process.
        control: what the same processes timed of it, in the accepted run and in today's.
        confidence: of each of the intervals that the result spans.
    """
    least = rounding(NS_PER_MS * before) + rounding(NS_PER_MS * now)
    then, today = control
    if not then:
        return judged(ratio_of(before, now, confidence, paired=False, least=least))
    found = []
    for name in then:
        pair = ((before / then[name]).dropna(), (now / today[name]).dropna())
        clock = rounding(NS_PER_MS * then[name]) + rounding(NS_PER_MS * today[name])
        found.append(ratio_of(*pair, confidence, paired=False, least=least + clock))
    value = math.exp(sum(math.log(ratio.value) for ratio in found) / len(found))
    low, high = min(ratio.low for ratio in found), max(ratio.high for ratio in found)
    return judged(Estimate(value, low, high, min(ratio.processes for ratio in found)))


def control_words(then: pd.DataFrame, now: pd.DataFrame) -> str:
    """What is said of the control: by how much it moved since the accepted run."""
    moved = []
    for name in CONTROLS:
        logs = [np.log(times[times["arm"] == name]["time_ms"]).mean() for times in (then, now)]
        moved.append(f"{100 * math.expm1(logs[1] - logs[0]):+.1f} % ({name.removeprefix(CONTROL)})")
    return f"Changes are relative to the control, which itself moved by {' and '.join(moved)}"
