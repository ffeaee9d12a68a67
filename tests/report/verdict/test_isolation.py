"""The checks on judge and candidate: packed SDPA alone and beside it, two clocks, packed SDPA's error, switches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import GRID
from synthetic_check import alone, burst

from nsa.records.grids import grid
from nsa.records.shapes import GridShape
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from tests.report.conftest import Lab

FIRST = GridShape(*grid(GRID, "cuda")[0].sizes)
BURSTS = tuple(burst(process, GridShape(*shape.sizes)) for process in range(3) for shape in grid(GRID, "cuda"))


def checks_of(lab: Lab, **check: object) -> dict[str, Check]:
    """The checks of one kernel check by name."""
    return {found.name: found for found in lab.run([], [lab.check("cuda", **check)]).checks}


def fired(lab: Lab, **check: object) -> dict[str, str]:
    """The severities of the checks that fired, by name."""
    return {name: found.severity for name, found in checks_of(lab, **check).items() if found.fired}


@pytest.mark.parametrize(
    ("name", "severity", "facts"),
    [
        ("baseline_disturbed", BLOCKING, {"baseline_alone": tuple(alone(p, FIRST, us=56) for p in range(3))}),
        ("baseline_disturbed", BLOCKING, {"baseline_alone": tuple(alone(p, FIRST, us=64) for p in range(3))}),
        ("baseline_disturbed", BLOCKING, {"baseline_alone": ()}),
        ("clocks_disagree", BLOCKING, {"bursts": (*BURSTS[1:], burst(0, FIRST, us=14.0))}),
        ("clocks_disagree", BLOCKING, {"bursts": (*BURSTS[1:], burst(0, FIRST, events_us=0.0))}),
        ("clocks_disagree", BLOCKING, {"bursts": (*BURSTS[1:], burst(0, FIRST, us=13.6, queries=300))}),
        ("clocks_disagree", BLOCKING, {"bursts": BURSTS[1:]}),
        ("clocks_disagree", BLOCKING, {"bursts": ()}),
        ("torch_switched", WARNING, {"switched": ("deterministic_algorithms: False before, True after",)}),
    ],
)
def test_a_fault_fires_its_check_alone(lab: Lab, name: str, severity: str, facts: dict[str, object]) -> None:
    """A disturbed baseline and clocks that disagree block, as does a fact that is missing; a switch warns."""
    assert fired(lab, facts=facts) == {name: severity}


def test_what_is_within_the_bounds_fires_nothing(lab: Lab) -> None:
    """Packed SDPA may move by less than 5 %, and a replay take 15 % more than its events say, and its launch.

    It is the same where each replay has a query of its own.
    """
    near = {
        "baseline_alone": tuple(alone(p, FIRST, us=58) for p in range(3)),
        "bursts": (*BURSTS[1:], burst(0, FIRST, us=13.4), burst(0, FIRST, us=13.4, queries=300)),
    }
    assert fired(lab, facts=near) == {}


def test_a_message_gives_both_figures(lab: Lab) -> None:
    """Whoever reads that a check fired sees what was compared."""
    facts = {
        "baseline_alone": tuple(alone(p, FIRST, us=50) for p in range(3)),
        "bursts": (*BURSTS[1:], burst(0, FIRST, us=40.0)),
    }
    found = checks_of(lab, facts=facts)
    assert "took 50 µs before the candidate was loaded and " in found["baseline_disturbed"].message
    assert "+20" in found["baseline_disturbed"].message or "+19" in found["baseline_disturbed"].message
    said = found["clocks_disagree"].message
    assert said.startswith(f"300 replays on {FIRST} in process 0 took 40 µs each by the judge's clock, ")
    assert "where its own events say 10 µs (at most 1.15 times that and 2 µs to launch it)" in said


@pytest.mark.parametrize(("device", "error"), [("cuda", 0.02), ("cpu", 1e-4)])
def test_an_inaccurate_packed_sdpa_blocks(lab: Lab, device: str, error: float) -> None:
    """Twice its error is what a candidate may err by, so beyond its bound nothing is decided; one row is enough."""
    where = {"backend": "sdpa:varlen", "seed": 1, "value_dim": 128}
    alter = (where, {"sdpa_oracle_error": error})
    assert fired(lab, device=device, alter=alter) == {"packed_sdpa_inaccurate": BLOCKING}
    assert "Dv=128" in checks_of(lab, device=device, alter=alter)["packed_sdpa_inaccurate"].message


def test_on_a_cpu_no_time_is_looked_at(lab: Lab) -> None:
    """Nothing is timed there: the checks on two processes' times are not made."""
    names = set(checks_of(lab, device="cpu"))
    assert {"packed_sdpa_inaccurate", "torch_switched"} <= names
    assert not {"baseline_disturbed", "clocks_disagree"} & names
