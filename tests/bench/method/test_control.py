"""The control: fixed work of the harness's own, in every block."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from standins import Sampler, Timer

from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import REPETITIONS, Control
from nsa.bench.method.interleave import Candidate, interleave, replicate_facts
from nsa.bench.method.timing import FLUSH_BYTES, CudaTimer
from nsa.records.words import CONTROLS


def test_every_block_times_the_control() -> None:
    """Both workloads have a few repetitions in each block, however often the others are timed."""
    timer = Timer()
    control = Control(timer)  # type: ignore[arg-type]
    groups = [[Candidate({"arm": "all"}, lambda n: [1] * n)], *control.groups("arm", {"mode": "graph"})]
    rows = interleave(groups, 8, 4, random.Random(0), Sampler())  # type: ignore[arg-type]
    each = Counter((row["arm"], row["block"]) for row in rows if row["arm"] != "all")
    assert each == {(name, block): REPETITIONS for name in CONTROLS for block in range(4)}
    assert all(row["mode"] == "graph" for row in rows if row["arm"] != "all")
    assert timer.captures == 2


def test_a_cpu_has_no_control() -> None:
    """Its times decide nothing."""
    assert Control(None).groups("arm", {}) == []


def test_a_block_waits_for_the_clock_and_the_facts_say_how_long() -> None:
    """Each block waits once; the clock at the start and what was waited are the replicate's facts."""

    class Counted(Clock):
        waits = 0

        def wait(self) -> None:
            self.waits += 1
            self.start_mhz, self.waited_s = 1980, self.waited_s + 0.25

    clock = Counted(Sampler(), lambda: None)  # type: ignore[arg-type]
    groups = [[Candidate({"arm": "all"}, lambda n: [1] * n)]]
    rows = interleave(groups, 8, 4, random.Random(0), Sampler(), clock=clock)  # type: ignore[arg-type]
    assert clock.waits == 4
    facts = replicate_facts(0, 1.0, rows, clock)
    assert (facts.sm_clock_start_mhz, facts.waited_clock_s) == (1980, 1.0)
    assert replicate_facts(0, 1.0, rows).sm_clock_start_mhz is None


@pytest.mark.gpu
def test_the_control_on_a_gpu_is_steady() -> None:
    """The train takes tens of microseconds, the stream no less than its bytes need; both repeat within some percent."""
    device = torch.device("cuda")
    timer = CudaTimer(device)
    timer.settle()
    (group,) = Control(timer).groups("arm", {})
    for one in group:
        first, second = (sorted(one.time(REPETITIONS))[1] for _ in range(2))
        assert second == pytest.approx(first, rel=0.05)
        if one.columns["arm"].endswith("copy"):
            assert 2 * FLUSH_BYTES / (first * 1e-9) < 2e13
        else:
            assert 5e3 < first < 1e6
