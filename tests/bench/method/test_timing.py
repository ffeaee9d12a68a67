"""Timing by the wall clock: what lies inside the timed region, and what does not."""

from __future__ import annotations

import time

import pytest
import torch
from standins import CPU

from nsa.bench.method import timing
from nsa.bench.method.timing import CudaTimer, bandwidths, wall


def test_each_repetition_is_restored_and_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is restored before each repetition, outside of the time that is measured."""
    clock, happened = [0], []

    def takes(name: str, nanoseconds: int) -> None:
        happened.append(name)
        clock[0] += nanoseconds

    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: clock[0])
    values = wall(lambda: takes("run", 5), CPU, 3, lambda: takes("restore", 1000))
    assert values == [5, 5, 5]
    assert happened == ["restore", "run"] * 3


@pytest.mark.gpu
def test_a_graph_is_timed_as_the_device_sees_it() -> None:
    """Cold and warm replays of a captured graph are restored before each, and take less than the host's call."""
    device = torch.device("cuda")
    timer, x, restored = CudaTimer(device), torch.zeros(1 << 20, device=device), []
    captured = timer.capture(lambda: x.zero_(), lambda: x.add_(1).clone(), warmup=2)
    restore = lambda: restored.append(x.zero_())
    for cold in (True, False):
        restored.clear()
        values = timer.time(restore, captured.graph.replay, cold, 5)
        assert len(values) == 5 and 0 < min(values) < 1_000_000
        assert len(restored) == (5 if cold else 10)
        assert (captured.output == 1).all()  # of the state that was restored, not of the replay before
    empty = timer.capture_empty(2)
    assert min(timer.time(lambda: None, empty.graph.replay, True, 5)) < 100_000
    assert min(bandwidths(device, 3)) > 1e11


@pytest.mark.gpu
def test_the_wall_clock_waits_for_the_device() -> None:
    """An eager call's time includes the work that it has only enqueued."""
    device = torch.device("cuda")
    torch.cuda._sleep(1)
    torch.cuda.synchronize(device)  # the context is there
    start = time.perf_counter_ns()
    torch.cuda._sleep(50_000_000)
    torch.cuda.synchronize(device)
    slept = time.perf_counter_ns() - start
    (value,) = wall(lambda: torch.cuda._sleep(50_000_000), device, 1, lambda: None)
    assert value > slept / 2
