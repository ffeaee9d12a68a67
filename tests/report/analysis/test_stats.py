"""The statistics against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from nsa.report.analysis.stats import (
    Estimate,
    changed,
    each_of,
    half_tick_ns,
    interval,
    log_interval,
    process_times,
    rescaled,
    rounding,
    speedup,
    welch,
)

T_2 = 4.302652729911275  # t quantile, 97.5 %, 2 degrees of freedom (any table)


def repetitions(times_ns: dict[tuple[int, str, bool | None], list[int]]) -> pd.DataFrame:
    rows = [
        {"process": process, "arm": arm, "emits": emits, "value_ns": value}
        for (process, arm, emits), values in times_ns.items()
        for value in values
    ]
    return pd.DataFrame(rows)


def test_interval_is_the_students_t_interval_of_the_processes() -> None:
    """The interval is that of Student's t over the processes, worked out by hand."""
    estimate = interval([1.0, 2.0, 3.0], 0.95)
    half = T_2 / math.sqrt(3)
    assert (estimate.value, estimate.processes) == (2.0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((2 - half, 2 + half))


def test_interval_keeps_negative_samples() -> None:
    """Samples below 0, as a marginal may be, count like any other."""
    assert interval([-1.0, 0.0, -2.0], 0.95).value == -1.0


def test_log_interval_is_symmetric_on_the_logs() -> None:
    """The interval of a ratio is a t-interval of the logarithms: its inverse has the inverse bounds."""
    estimate = log_interval([1.0, math.e, math.e**2], 0.95)
    half = T_2 / math.sqrt(3)
    assert estimate.value == pytest.approx(math.e)
    assert (estimate.low, estimate.high) == pytest.approx((math.exp(1 - half), math.exp(1 + half)))


@pytest.mark.parametrize("estimator", [interval, log_interval])
def test_one_process_bounds_nothing(estimator: object) -> None:
    """One replicate has a value and infinite bounds, by which no gate decides."""
    estimate = estimator([3.0], 0.95)  # type: ignore[operator]
    assert estimate == Estimate(pytest.approx(3.0), -math.inf, math.inf, 1)
    assert not estimate.replicated


def test_process_times_weighs_medians_of_emitting_and_other_steps() -> None:
    """T_p = w·median(emitting) + (1 - w)·median(others), in each process; outliers do not move it."""
    rows = repetitions(
        {
            (0, "all", True): [4_000_000, 5_000_000, 90_000_000],
            (0, "all", False): [1_000_000, 1_000_000, 70_000_000],
            (1, "all", True): [6_000_000],
            (1, "all", False): [2_000_000],
        }
    )
    assert process_times(rows, 0.25)["all"].tolist() == [0.25 * 5 + 0.75 * 1, 0.25 * 6 + 0.75 * 2]


@pytest.mark.parametrize("emits", [True, False, None])
def test_process_times_takes_the_only_kind_as_it_is(emits: bool | None) -> None:
    """Times of one kind of step, or of none as an empty graph has, are weighted by nothing."""
    rows = repetitions({(0, "empty", emits): [3_000_000]})
    assert process_times(rows, 0.25)["empty"].tolist() == [3.0]


def test_speedup_is_the_ratio_of_medians_in_each_process() -> None:
    """The speedup is paired by process, which cancels what a process adds to both."""
    reference = repetitions({(0, "r", None): [10, 20, 900], (1, "r", None): [40, 40, 40], (2, "r", None): [7]})
    candidate = repetitions({(0, "c", None): [10, 10, 10], (1, "c", None): [5, 5, 5]})
    estimate = speedup(reference, candidate, 0.95)
    assert estimate is not None
    assert (estimate.value, estimate.processes) == (pytest.approx(4.0), 2)  # sqrt(2 · 8); process 2 has no pair


def test_speedup_without_a_common_process_is_none() -> None:
    """Times of different processes have no speedup."""
    assert speedup(repetitions({(0, "r", None): [1]}), repetitions({(1, "c", None): [1]}), 0.95) is None


def test_a_familys_intervals_share_its_error() -> None:
    """Each of eight intervals that hold together at 95 % has an eighth of the error."""
    assert each_of(1, 0.95) == 0.95
    assert each_of(8, 0.95) == pytest.approx(1 - 0.05 / 8)


def test_rescaled_is_the_interval_that_the_samples_would_give() -> None:
    """An interval at another confidence is the one that the samples give there."""
    samples = [1.01, 0.98, 1.03, 1.002]
    wide, direct = rescaled(log_interval(samples, 0.95), 0.95, 0.99), log_interval(samples, 0.99)
    assert (wide.low, wide.high) == pytest.approx((direct.low, direct.high))
    assert rescaled(log_interval([2.0], 0.95), 0.95, 0.99) == log_interval([2.0], 0.99)


def test_welch_is_scipys() -> None:
    """The interval between two runs of different spread and size is Welch's, as scipy has it."""
    reference, candidate = np.log([1.0, 1.1, 0.9, 1.05]), np.log([1.3, 1.31, 1.29])
    found = welch(reference, candidate, 0.95)
    bounds = ttest_ind(candidate, reference, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(bounds.low), math.exp(bounds.high)))
    assert found.value == pytest.approx(math.exp(candidate.mean() - reference.mean()))


TIMES = pd.Series([1.0, 1.2, 0.9, 1.1])  # ms, processes far apart


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([1.05, 1.051, 1.049, 1.05], "slower"),
        ([0.95, 0.951, 0.949, 0.95], "faster"),
        ([1.0, 1.001, 0.999, 1.0], "same"),
        ([1.008, 1.009, 1.007, 1.008], "same"),  # beyond chance, and no news
        ([1.00, 1.08, 0.97, 1.02], "too few replicates"),  # a change of 5 % may hide in it
    ],
)
def test_changed_says_what_the_whole_interval_says(factors: list[float], verdict: str) -> None:
    """The verdict is that of the whole interval: a wide one says "too few replicates", not "same"."""
    assert changed(TIMES, TIMES * factors, 0.95, paired=True).verdict == verdict


def test_only_arms_of_one_run_are_paired() -> None:
    """Arms of one run are paired by process; those of two runs, whose processes share nothing, are not."""
    slower = 1.05 * TIMES
    assert changed(TIMES, slower, 0.95, paired=True).verdict == "slower"
    assert changed(TIMES, slower, 0.95, paired=False).verdict == "too few replicates"
    assert changed(TIMES, slower.iloc[::-1], 0.95, paired=True).verdict == "slower"  # by process, not by place


@pytest.mark.parametrize("paired", [True, False])
def test_one_process_shows_no_change(paired: bool) -> None:
    """One process shows no change, however large."""
    change = changed(pd.Series([1.0]), pd.Series([9.0]), 0.95, paired=paired)
    assert (change.verdict, change.ratio.value) == ("too few replicates", pytest.approx(9.0))


def test_times_without_any_spread_compare() -> None:
    """Times that are all alike, as whole nanoseconds may be, are compared."""
    assert changed(pd.Series([2.0, 2.0]), pd.Series([3.0, 3.0]), 0.95, paired=False).verdict == "slower"


def test_the_clocks_resolution_is_what_its_times_show() -> None:
    """Half of the smallest difference between two times, and a hundredth more; half of CUDA's 0.5 µs at most."""
    assert half_tick_ns([96_000, 96_032, 96_128]) == pytest.approx(1.01 * 16)
    assert half_tick_ns([96_000, 98_000]) == half_tick_ns([96_000]) == half_tick_ns([]) == pytest.approx(1.01 * 250)
    assert rounding([100_000] * 3) == pytest.approx(1.01 * 0.0025)
    assert rounding([]) == 0.0


def test_no_interval_is_narrower_than_the_clock() -> None:
    """Ten processes that agree to the last bit are no surer than the clock; where they spread, nothing is added."""
    alike = speedup(*(in_processes(value) for value in (96_500, 96_000)), 0.95)
    assert alike is not None and alike.low < 1 < alike.high
    assert alike.high / alike.value == pytest.approx(math.exp(rounding([96_500]) + rounding([96_000])))
    fine = [rounding([1000 * value for value in (1.0, 1.1, 1.3)])]
    assert log_interval([1.0, 1.1, 1.3], 0.95, *fine) == log_interval([1.0, 1.1, 1.3], 0.95)
    for paired in (True, False):
        one, other = (pd.Series([ms] * 10) for ms in (0.007, 0.0075))
        assert changed(one, other, 0.95, paired=paired).verdict == "too few replicates"  # one tick of a short kernel
        assert changed(one, other * 1.2, 0.95, paired=paired).verdict == "slower"


def in_processes(value_ns: int) -> pd.DataFrame:
    """The same time, over and over, in each of ten processes."""
    return pd.DataFrame({"process": range(10), "value_ns": value_ns})
