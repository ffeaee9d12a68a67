"""The statistics against figures worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nsa.report.stats import Estimate, interval, log_interval, process_times, speedup

T_2 = 4.302652729911275  # t quantile, 97.5 %, 2 degrees of freedom (any table)


def repetitions(times_ns: dict[tuple[int, str, bool | None], list[int]]) -> pd.DataFrame:
    rows = [
        {"process": process, "arm": arm, "emits": emits, "value_ns": value}
        for (process, arm, emits), values in times_ns.items()
        for value in values
    ]
    return pd.DataFrame(rows)


def test_interval_is_the_students_t_interval_of_the_processes() -> None:
    """A normal quantile, or the spread of repetitions instead of processes, would make every verdict too sure."""
    estimate = interval([1.0, 2.0, 3.0], 0.95)
    half = T_2 / math.sqrt(3)
    assert (estimate.value, estimate.processes) == (2.0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((2 - half, 2 + half))


def test_interval_keeps_negative_samples() -> None:
    """A marginal below 0 is a finding; a log would hide or crash on it."""
    assert interval([-1.0, 0.0, -2.0], 0.95).value == -1.0


def test_log_interval_is_symmetric_on_the_logs() -> None:
    """A ratio and its inverse must give inverse intervals, which a plain t-interval does not."""
    estimate = log_interval([1.0, math.e, math.e**2], 0.95)
    half = T_2 / math.sqrt(3)
    assert estimate.value == pytest.approx(math.e)
    assert (estimate.low, estimate.high) == pytest.approx((math.exp(1 - half), math.exp(1 + half)))


@pytest.mark.parametrize("estimator", [interval, log_interval])
def test_one_process_bounds_nothing(estimator: object) -> None:
    """With one replicate a gate must not be decided; a zero-width interval would decide it."""
    estimate = estimator([3.0], 0.95)  # type: ignore[operator]
    assert estimate == Estimate(pytest.approx(3.0), -math.inf, math.inf, 1)
    assert not estimate.replicated


def test_process_times_weighs_medians_of_emitting_and_other_steps() -> None:
    """T_p = w·median(emitting) + (1 - w)·median(others), per process; means would follow outliers."""
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
    """Below S = l nothing emits, and an empty graph has no kind: a weight would shrink their times."""
    rows = repetitions({(0, "empty", emits): [3_000_000]})
    assert process_times(rows, 0.25)["empty"].tolist() == [3.0]


def test_speedup_is_the_ratio_of_medians_in_each_process() -> None:
    """Pooling the processes would take the difference between them for noise of the kernel."""
    reference = repetitions({(0, "r", None): [10, 20, 900], (1, "r", None): [40, 40, 40], (2, "r", None): [7]})
    candidate = repetitions({(0, "c", None): [10, 10, 10], (1, "c", None): [5, 5, 5]})
    estimate = speedup(reference, candidate, 0.95)
    assert estimate is not None
    assert (estimate.value, estimate.processes) == (pytest.approx(4.0), 2)  # sqrt(2 · 8); process 2 has no pair


def test_speedup_without_a_common_process_is_none() -> None:
    """A ratio of different processes is no paired ratio."""
    assert speedup(repetitions({(0, "r", None): [1]}), repetitions({(1, "c", None): [1]}), 0.95) is None


def test_estimate_reads_a_null_bound_as_no_bound() -> None:
    """Null means too few replicates; read as 0 it would decide a gate."""
    row = {"x": 1.0, "x_lo": None, "x_hi": None}
    assert Estimate.from_row(row, "x", 1) == Estimate(1.0, -math.inf, math.inf, 1)
    assert Estimate.from_row({"x": None}, "x", 0) is None
