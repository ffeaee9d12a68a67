"""Timing by the wall clock: what lies inside the timed region, and what does not."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from standins import CPU

from nsa.bench.method import timing
from nsa.bench.method.timing import CudaTimer, bandwidths, wall
from nsa.errors import Disturbed


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


class Device:
    """Stands in for torch.cuda: its clock runs while a kernel spins, and stands still while the host enqueues.

    Args:
        late: for each replay, whether the spin had ended before the host had enqueued it.
    """

    def __init__(self, late: list[bool]) -> None:
        self.late, self.spun = late, list[int]()

    def event(self, enable_timing: bool) -> Any:
        """An event of a device that is at the replay already, or is not."""
        assert enable_timing
        late = self.late[len(self.spun) - 1]
        ms = 0.5 if late else 0.01
        return SimpleNamespace(record=lambda: None, query=lambda: late, elapsed_time=lambda stop: ms)


@pytest.mark.parametrize(
    ("late", "spun"),
    [([False, False], [1, 1]), ([True, False, False], [1, 2, 1]), ([False, True, True, False], [1, 1, 2, 4])],
)
def test_a_delay_of_the_host_is_in_no_time(monkeypatch: pytest.MonkeyPatch, late: list[bool], spun: list[int]) -> None:
    """A replay that the device reached before the host had enqueued it is timed again, with its state restored."""
    device, restored = Device(late), list[str]()
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "_sleep", device.spun.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    timer = CudaTimer.__new__(CudaTimer)
    timer.device, timer.empty_cache = CPU, lambda: None
    assert timer.time(lambda: restored.append("restored"), lambda: None, True, 2) == [10_000, 10_000]
    assert [cycles // timing.COVER_CYCLES for cycles in device.spun] == spun
    assert len(restored) == len(late)


@pytest.mark.parametrize(
    ("cold", "order"), [(True, "restore flush touch replay"), (False, "restore replay restore replay")]
)
def test_what_a_step_leaves_in_the_l2_is_read_behind_the_flush(
    monkeypatch: pytest.MonkeyPatch, cold: bool, order: str
) -> None:
    """Before the flush it would be gone again; a warm replay has read it anyway."""
    happened = list[str]()
    device = Device([False])
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "_sleep", device.spun.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    timer = CudaTimer.__new__(CudaTimer)
    timer.device, timer.empty_cache = CPU, lambda: happened.append("flush")
    restore, replay, touch = (lambda name=name: happened.append(name) for name in ("restore", "replay", "touch"))
    timer.time(restore, replay, cold, 1, touch=touch)
    assert happened == order.split()


def test_a_host_that_is_always_late_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is reported of a machine on which nothing can be timed."""
    device = Device([True] * timing.COVER_ATTEMPTS)
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "_sleep", device.spun.append)
    timer = CudaTimer.__new__(CudaTimer)
    timer.device, timer.empty_cache = CPU, lambda: None
    with pytest.raises(Disturbed, match="held up in each of 12 attempts"):
        timer.time(lambda: None, lambda: None, True, 1)


@pytest.mark.gpu
def test_a_host_that_pauses_is_not_timed() -> None:
    """A host that sleeps between the cover and the replay adds nothing to what the replay takes."""
    timer = CudaTimer(torch.device("cuda"))
    empty, calls = timer.capture_empty(2), list[int]()

    def replay() -> None:
        calls.append(1)
        if len(calls) % 3 == 1:  # each first attempt
            time.sleep(0.005)
        empty.graph.replay()

    assert max(timer.time(lambda: None, replay, True, 4)) < 1_000_000
    assert len(calls) > 4


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
