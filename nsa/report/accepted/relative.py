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
from numpy.typing import ArrayLike, NDArray

from nsa.records.shapes import AXES
from nsa.records.words import CONTROL, CONTROLS
from nsa.report.accepted.keep import CHECK, DECODE
from nsa.report.analysis.stats import NS_PER_MS, Change, Estimate, judged, ratio_of, rounding, welch

Fixed = Mapping[str, "pd.Series[float]"]  # the control's times beside it, by the workload's name; empty on a CPU


def has_control(times: pd.DataFrame) -> bool:
    """Whether rows of MEDIANS have the control, all of it: that of an earlier version has other names."""
    return set(CONTROLS) <= set(times["arm"])


def step_times(times: pd.DataFrame, arm: str = "all") -> dict[tuple[str, int], pd.Series[float]]:
    """T(arm) of each decode cell, (backend, S), one time per process."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    columns = (times[name].to_list() for name in ("kind", "arm", "backend", "S", "process", "time_ms"))
    for kind, of, backend, S, process, time_ms in zip(*columns, strict=True):  # few rows, that are often asked for
        if (kind, of) == (DECODE, arm):
            cell = found.setdefault((str(backend), int(S)), {})
            if not math.isnan(time_ms):
                cell[process] = time_ms
    return {cell: _by_process([*each], [*each.values()]) for cell, each in found.items()}


def shape_times(times: pd.DataFrame, backend: str, control: str | None = None) -> pd.DataFrame:
    """The times of a kernel check, or of the control beside it: a row per process and a column per shape."""
    of = times["arm"].isna() if control is None else times["arm"] == control
    found: dict[tuple[float, ...], dict[int, float]] = {}
    columns = (times[name].to_list() for name in ("kind", "backend", "process", "time_ms", *AXES))
    for wanted, kind, name, process, time_ms, *shape in zip(of.to_list(), *columns, strict=True):
        if wanted and (kind, name) == (CHECK, backend):
            found.setdefault(tuple(shape), {})[process] = time_ms
    shapes, processes = sorted(found), sorted({process for each in found.values() for process in each})
    values = [[found[shape].get(process, math.nan) for shape in shapes] for process in processes]
    names = pd.Index(shapes, tupleize_cols=False)  # making a MultiIndex takes longer than the rest
    return pd.DataFrame(values, pd.Index(processes, name="process"), names, dtype=float)


def _by_process(processes: Sequence[int], times_ms: ArrayLike) -> pd.Series[float]:
    return pd.Series(np.asarray(times_ms, dtype=float), pd.Index(processes, name="process"))


def geometric_mean(times: pd.DataFrame) -> pd.Series[float]:
    """Over the shapes, of the processes that timed them all."""
    whole = times.dropna()
    return pd.Series(np.exp(np.log(whole.to_numpy(float)).mean(axis=1)), whole.index)


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
    least = _rounding(before) + _rounding(now)
    then, today = control
    if not then:
        return judged(ratio_of(before, now, confidence, paired=False, least=least))
    found = []
    for name in then:
        clock = _rounding(then[name]) + _rounding(today[name])
        logs = (np.log(_over(before, then[name])), np.log(_over(now, today[name])))
        found.append(welch(*logs, confidence, least + clock))
    value = math.exp(sum(math.log(ratio.value) for ratio in found) / len(found))
    low, high = min(ratio.low for ratio in found), max(ratio.high for ratio in found)
    return judged(Estimate(value, low, high, min(ratio.processes for ratio in found)))


def _rounding(times_ms: pd.Series[float]) -> float:
    return rounding(NS_PER_MS * times_ms.to_numpy(float))


def _over(times: pd.Series[float], control: pd.Series[float]) -> NDArray[np.float64]:
    """The ratio in each process that timed both."""
    if times.index.equals(control.index):  # the usual case, in which nothing needs to be aligned
        ratio = times.to_numpy(float) / control.to_numpy(float)
        return ratio[~np.isnan(ratio)]
    return np.asarray((times / control).dropna(), dtype=np.float64)


def control_words(then: pd.DataFrame, now: pd.DataFrame) -> str:
    """What is said of the control: by how much it moved since the accepted run."""
    moved = []
    for name in CONTROLS:
        logs = [np.log(times[times["arm"] == name]["time_ms"]).mean() for times in (then, now)]
        moved.append(f"{100 * math.expm1(logs[1] - logs[0]):+.1f} % ({name.removeprefix(CONTROL)})")
    return f"Changes are relative to the control, which itself moved by {' and '.join(moved)}"
