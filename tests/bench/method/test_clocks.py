"""A block waits for the clock at which its process began, and for no longer than its bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nsa.bench.method import clocks
from nsa.bench.method.clocks import BLOCK_S, TOTAL_S, Clock


class Machine:
    """A GPU whose clock follows its own time, which passes while somebody sleeps."""

    def __init__(self, limit: int | None = 1980) -> None:
        self.now, self.limit, self.nudges = 100.0, limit, 0
        self.clock: int | None = 1980
        self.back_at: float | None = None  # when it is at 1980 again

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def heavy(self, clock: int, seconds: float) -> None:
        """Arithmetic that leaves the clock lower for so long."""
        self.clock, self.back_at = clock, self.now + seconds

    def sm_clock(self) -> int | None:
        if self.back_at is not None and self.now >= self.back_at:
            self.clock, self.back_at = 1980, None
        return self.clock

    def sm_clock_limit(self) -> int | None:
        return self.limit

    def nudge(self) -> None:
        self.nudges += 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Its time is that of the module under test."""
    made = Machine()
    monkeypatch.setattr(clocks, "time", made)
    return made


def clock_of(machine: Machine) -> Clock:
    return Clock(machine, machine.nudge)  # type: ignore[arg-type]


def test_a_clock_that_is_there_is_not_waited_for(machine: Machine) -> None:
    """At the limit of the device a block starts at once, and so do later ones; a step of 15 MHz is no other state."""
    clock = clock_of(machine)
    for mhz in (1980, 1965, 1980):
        machine.clock = mhz
        clock.wait()
    assert (clock.start_mhz, clock.waited_s, machine.now) == (1980, 0.0, 100.0)


def test_a_block_after_heavy_work_waits_until_the_clock_is_back(machine: Machine) -> None:
    """A clock that comes back within the bound is waited for, with a little work between the looks."""
    clock = clock_of(machine)
    clock.wait()
    machine.heavy(1500, 0.7)
    clock.wait()
    assert machine.sm_clock() == 1980 and clock.waited_s == pytest.approx(0.7, abs=0.05)
    assert machine.nudges > 10


def test_the_first_block_waits_too(machine: Machine) -> None:
    """What a process builds lowers the clock as well: the start is what the clock is when it has come up."""
    machine.heavy(1600, 0.5)
    clock = clock_of(machine)
    clock.wait()
    assert clock.start_mhz == 1980 and clock.waited_s == pytest.approx(0.5, abs=0.05)


def test_a_clock_that_does_not_rise_is_where_the_process_begins(machine: Machine) -> None:
    """Under a power cap, or with locked clocks, the first block waits a second, and later ones for that clock alone."""
    machine.clock = 1410
    clock = clock_of(machine)
    clock.wait()
    assert clock.start_mhz == 1410 and clock.waited_s == pytest.approx(1.0, abs=0.05)
    waited = clock.waited_s
    clock.wait()
    assert clock.waited_s == waited


def test_waiting_has_a_bound_for_a_block_and_one_for_the_process(machine: Machine) -> None:
    """A clock that stays low costs two seconds a block, ten a process, and is then timed as it is."""
    clock = clock_of(machine)
    clock.wait()
    machine.clock, before = 1500, machine.now
    clock.wait()
    assert machine.now - before == pytest.approx(BLOCK_S, abs=0.05)
    for _ in range(20):
        clock.wait()
    assert clock.waited_s == pytest.approx(TOTAL_S, abs=0.1)
    assert clock.start_mhz == 1980


@pytest.mark.parametrize(("mhz", "limit"), [(None, 1980), (1980, None), (None, None)])
def test_what_nvml_does_not_tell_is_not_waited_for(machine: Machine, mhz: int | None, limit: int | None) -> None:
    """Without the clock or its limit no block waits."""
    machine.clock, machine.limit = mhz, limit
    clock = clock_of(machine)
    clock.wait()
    assert (clock.start_mhz, clock.waited_s, machine.now) == (mhz, 0.0, 100.0)
