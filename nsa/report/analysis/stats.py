"""Medians per process, and t-intervals over the processes, which are the replicates (docs/statistics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

NS_PER_MS = 1e6
TOLERANCE = 0.01  # a time that changed by less is neither slower nor faster
TICK_NS = 500.0  # the resolution of an event's time that CUDA promises; a device may have a finer one
VISIBLE = 0.05  # two times are the same only where the interval excludes a change of this size


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval over the processes; one process alone bounds nothing."""

    value: float
    low: float  # -inf where there are too few replicates
    high: float  # inf where there are too few replicates
    processes: int

    @property
    def replicated(self) -> bool:
        """Whether there were at least two replicates, so that the interval says something."""
        return self.processes >= 2


@dataclass(frozen=True)
class Change:
    """What a comparison of two times says, with the ratio that says it."""

    verdict: Literal["slower", "faster", "same", "too few replicates"]
    ratio: Estimate  # of the candidate's time over the reference's


def half_tick_ns(times_ns: ArrayLike) -> float:
    """How far the median of some times may lie from the time that it stands for, in all processes alike.

    That is half of the clock's resolution as the times show it, the smallest difference between two of them, at most
    TICK_NS; and 1 % more, so that a difference of one tick is within it after any rounding.
    """
    distinct = np.unique(np.asarray(times_ns, dtype=float))
    tick = min(TICK_NS, float(np.diff(distinct).min())) if len(distinct) > 1 else TICK_NS
    return 1.01 * tick / 2


def rounding(times_ns: ArrayLike) -> float:
    """The same on the log of the times; those of the two times of a ratio add up."""
    times = np.asarray(times_ns, dtype=float)
    return half_tick_ns(times) * float(np.mean(1 / times)) if len(times) else 0.0


def interval(samples: ArrayLike, confidence: float, least: float = 0.0) -> Estimate:
    """The mean of one sample per process and its t-interval; for marginals and shares, which may be ≤ 0.

    Args:
        least: half the width that it has at least: what the clock's resolution may move all samples by, alike.
    """
    values = np.asarray(samples, dtype=float)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Estimate(mean, -math.inf, math.inf, n)
    half = max(least, t_quantile(n - 1, confidence) * float(values.std(ddof=1)) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def log_interval(samples: ArrayLike, confidence: float, least: float = 0.0) -> Estimate:
    """The geometric mean of one positive sample per process and its t-interval on the logs; for times and ratios.

    Args:
        least: as of `interval`, on the logs; see `rounding`.
    """
    logs = interval(np.log(np.asarray(samples, dtype=float)), confidence, least)
    low, high = (math.exp(logs.low), math.exp(logs.high)) if logs.processes >= 2 else (-math.inf, math.inf)
    return Estimate(math.exp(logs.value), low, high, logs.processes)


def t_quantile(freedom: float, confidence: float) -> float:
    """Half the width of a two-sided t-interval, in standard errors."""
    # Here: what reads a finished verdict computes no interval. scipy.stats would take a second more.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def each_of(intervals: int, confidence: float) -> float:
    """The confidence of each of several intervals, so that all hold at once with the given one (Bonferroni)."""
    return 1 - (1 - confidence) / intervals


def rescaled(ratio: Estimate, confidence: float, other: float) -> Estimate:
    """The log interval of a ratio, given at one confidence, at another."""
    if not ratio.replicated:
        return ratio
    scale = t_quantile(ratio.processes - 1, other) / t_quantile(ratio.processes - 1, confidence)
    low, high = (ratio.value * (bound / ratio.value) ** scale for bound in (ratio.low, ratio.high))
    return Estimate(ratio.value, low, high, ratio.processes)


def changed(
    reference_ms: pd.Series[float], candidate_ms: pd.Series[float], confidence: float, *, paired: bool
) -> Change:
    """Whether the candidate is slower or faster than the reference, beyond TOLERANCE and beyond chance.

    slower, faster: the whole interval of the ratio lies beyond TOLERANCE. same: not so, and it lies within VISIBLE.
    Anything else is too few replicates: the interval is too wide to say either.
    Where several comparisons are made at once, give each the confidence of `each_of`.

    Args:
        reference_ms, candidate_ms: a column of `process_times` each, one time per process.
        paired: whether the same processes timed both (two arms of one run): what a process does to both then cancels.
            Two runs are not paired, though they number their processes alike.
    """
    least = sum(rounding(NS_PER_MS * times.dropna()) for times in (reference_ms, candidate_ms))
    return judged(ratio_of(reference_ms, candidate_ms, confidence, paired=paired, least=least))


def ratio_of(
    reference: pd.Series[float], candidate: pd.Series[float], confidence: float, *, paired: bool, least: float
) -> Estimate:
    """The candidate's time over the reference's, in any unit, with an interval; see `changed`, and `interval`."""
    if paired:
        return log_interval((candidate / reference).dropna(), confidence, least)
    return welch(np.log(reference.to_numpy(float)), np.log(candidate.to_numpy(float)), confidence, least)


def judged(ratio: Estimate) -> Change:
    """What the interval of a ratio of times says; see `changed`."""
    if ratio.low > 1 + TOLERANCE:
        return Change("slower", ratio)
    if ratio.high < 1 / (1 + TOLERANCE):
        return Change("faster", ratio)
    within = 1 / (1 + VISIBLE) < ratio.low and ratio.high < 1 + VISIBLE
    return Change("same" if within else "too few replicates", ratio)


def welch(
    reference: NDArray[np.float64], candidate: NDArray[np.float64], confidence: float, least: float = 0.0
) -> Estimate:
    """The ratio of two independent runs from the logs of their times, with Welch's t-interval; `least` as above."""
    difference, processes = float(candidate.mean() - reference.mean()), min(len(reference), len(candidate))
    if processes < 2:
        return Estimate(math.exp(difference), -math.inf, math.inf, processes)
    parts = [float(logs.var(ddof=1)) / len(logs) for logs in (reference, candidate)]  # squared standard errors
    degrees = [len(logs) - 1 for logs in (reference, candidate)]
    spread = sum(part**2 / degree for part, degree in zip(parts, degrees, strict=True))
    freedom = sum(parts) ** 2 / spread if spread else sum(degrees)
    half = max(least, t_quantile(freedom, confidence) * math.sqrt(sum(parts)))
    return Estimate(math.exp(difference), math.exp(difference - half), math.exp(difference + half), processes)


def process_times(rows: pd.DataFrame, emit_weight: float) -> pd.DataFrame:
    """T_p(arm) in ms, one row per process and one column per arm.

    The step that emits a compressed token and its neighbour that does not are weighted by how often each occurs;
    an arm that was run in one kind only stands as it is. A process without a kind that its peers have gives NaN.

    Args:
        rows: repetitions of one mode and cache state, with columns process, arm, emits and value_ns.
        emit_weight: share of the steps that emit.
    """
    kinds = rows.assign(emits=rows["emits"].eq(True))  # an empty graph neither emits nor not: null becomes False
    medians = kinds.groupby(["arm", "emits", "process"])["value_ns"].median() / NS_PER_MS
    if not len(medians):
        return pd.DataFrame()
    by_kind = medians.unstack("emits")  # [(arm, process), emits]
    times = by_kind.iloc[:, 0]
    if by_kind.shape[1] == 2:
        arms = medians.index.get_level_values("arm")
        emitting = medians.index.get_level_values("emits").to_numpy(bool)
        of = by_kind.index.get_level_values("arm")
        emits, rests = of.isin(arms[emitting]), of.isin(arms[~emitting])
        weighted = emit_weight * by_kind[True] + (1 - emit_weight) * by_kind[False]
        times = weighted.where(emits & rests, by_kind[True].where(emits, by_kind[False]))
    return times.unstack("arm").rename_axis(columns=None)


def speedup(reference_ns: pd.DataFrame, candidate_ns: pd.DataFrame, confidence: float) -> Estimate | None:
    """How many times faster the candidate is: per-process ratios of medians, t-interval on their logs.

    Args:
        reference_ns, candidate_ns: timed repetitions with columns process and value_ns, of the same processes.

    Returns:
        None when no process timed both.
    """
    reference, candidate = (rows.groupby("process")["value_ns"].median() for rows in (reference_ns, candidate_ns))
    ratios = (reference / candidate).dropna()  # a process that timed only one of the two gives no ratio
    least = rounding(reference_ns["value_ns"]) + rounding(candidate_ns["value_ns"])
    return log_interval(ratios, confidence, least) if len(ratios) else None
