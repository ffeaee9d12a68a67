"""What a history says: each measurement beside the accepted one or the first, relative to the control."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from remembered import remember

from nsa.report.accepted.keep import keep
from nsa.report.history.series import Series, series
from nsa.report.history.store import grown, of_the_accepted, read

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def of(lab: Lab, backend: str, kind: str = "decode", last: int = 10) -> Series:
    """The last series of a backend and a kind."""
    model, kept = read(lab.history / "nvidia-synthetic.parquet")
    found = series(grown(kept, (), of_the_accepted(lab.accepted, model)), last)
    return [each for each in found if (each.backend, each.kind) == (backend, kind)][-1]


def said(found: Series) -> list[str]:
    """What each point says, by its day."""
    return [
        f"{point.measured.measured_utc[8:10]} {point.change.verdict if point.change else point.reason or 'reference'}"
        for point in found.points
    ]


def test_a_step_that_became_slower_is_surely_so(lab: Lab) -> None:
    """12 % are slower than in the first run; what did not change is the same."""
    for day, fixed in ((20, 0.030), (21, 0.030), (22, 0.042)):
        remember(lab, day, parts={"fixed": fixed})
    assert said(of(lab, "cuda")) == ["20 reference", "21 same", "22 slower"]
    assert [point.surely for point in of(lab, "cuda").points] == [None, None, "slower"]
    assert said(of(lab, "sdpa")) == ["20 reference", "21 same", "22 same"]
    last = of(lab, "cuda").points[-1].change
    assert last is not None and last.ratio.value == pytest.approx(1.125, abs=0.005)


def test_the_control_takes_out_what_the_machine_did(lab: Lab) -> None:
    """Where steps and control alike take 12 % longer no step is slower; where the step alone does, it is."""
    remember(lab, 20)
    first = of(lab, "sdpa").points[0].measured
    slower = {"measured_utc": "2026-11-21T10:00:00+00:00", "times_ms": longer(first.times_ms)}
    alike = replace(first, **slower, train_ms=longer(first.train_ms), copy_ms=longer(first.copy_ms))
    assert said(series([first, alike])[0]) == ["20 reference", "21 same"]
    assert said(series([first, replace(first, **slower)])[0]) == ["20 reference", "21 slower"]
    without = replace(first, **slower, train_ms=(), copy_ms=())
    assert said(series([first, without])[0]) == ["20 reference", "21 no control was timed beside it"]


def longer(times: tuple[float, ...]) -> tuple[float, ...]:
    """Times of a machine that is slower by 12 %."""
    return tuple(1.12 * time for time in times)


def test_the_last_accepted_run_is_what_others_are_compared_with(lab: Lab) -> None:
    """Not the first, once a run was accepted; with --last 1 the accepted ones are still shown."""
    remember(lab, 20, speedup=1.8)
    keep(remember(lab, 21), lab.config, lab.accepted, cpu=False)
    remember(lab, 22)
    remember(lab, 23, speedup=1.6)
    check = of(lab, "cuda", "check")
    assert said(check) == ["20 slower", "21 reference", "22 same", "23 slower"]
    assert check.where == "kernel check, geometric mean of 4 shapes"
    assert said(of(lab, "cuda", "check", last=1)) == ["21 reference", "23 slower"]


def test_a_core_is_compared_with_the_first(lab: Lab) -> None:
    """Accepted runs have no cores."""
    keep(remember(lab, 20, cores=True), lab.config, lab.accepted, cpu=False)
    remember(lab, 21, cores=True)
    core = of(lab, "fused", "core")
    assert (said(core), core.where) == (["20 reference", "21 same"], "core check, geometric mean of 4 shapes")
    assert [point.measured.accepted for point in core.points] == [False, False]


def test_what_is_blocked_is_no_reference_and_not_compared(lab: Lab) -> None:
    """A run whose outputs are not finite decides nothing, here either."""
    remember(lab, 20, facts={"outputs_finite": False})
    remember(lab, 21)
    remember(lab, 22, facts={"outputs_finite": False})
    assert said(of(lab, "cuda")) == [
        "20 blocked by output_not_finite",
        "21 reference",
        "22 blocked by output_not_finite",
    ]


def test_other_settings_are_not_compared(lab: Lab) -> None:
    """The newest run's settings are those of the reference; a run of others names the first key."""
    remember(lab, 20)
    smaller = lab.config.decode.model_copy(update={"batch": 4})
    remember(replace(lab, config=lab.config.model_copy(update={"decode": smaller})), 21)
    assert said(of(lab, "sdpa")) == ["20 other config: decode.batch was 1, is 4", "21 reference"]
    assert said(of(lab, "cuda", "check")) == ["20 reference", "21 same"]
