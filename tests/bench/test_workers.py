"""Processes that take turns: what they return, who is alone when, and what becomes of one that fails."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from nsa.bench.turn import Ready
from nsa.bench.workers import Turn, run_together
from nsa.errors import BackendUnavailable, KernelFailed, KernelHung, Killed

LONG_S = 60.0
FORK = pytest.mark.parametrize("fork", [False, True], ids=["new interpreter", "fork"])


def own_pid(_: object, turn: Turn) -> int:
    return os.getpid()


def takes_turns(log: Path, turn: Turn) -> int:
    """Says when it builds, measures and goes on, in each of two rounds; that of the file 0 builds longest."""
    with log.open("a") as file:
        for _ in range(2):
            file.write(f"{time.monotonic()} build\n")
            time.sleep(0.3 if log.name == "0" else 0.05)
            file.write(f"{time.monotonic()} built\n")
            with turn:
                file.write(f"{time.monotonic()} measure\n")
                time.sleep(0.1)
                file.write(f"{time.monotonic()} measured\n")
    return len(turn.ours)


def exits(status: int, turn: Turn) -> None:
    os._exit(status)


def dies_of(number: int, turn: Turn) -> None:
    faulthandler.disable()  # a fork has pytest's, which would print what it does
    os.kill(os.getpid(), number)


def hangs(told: Path, turn: Turn) -> None:
    told.write_text(str(os.getpid()))
    time.sleep(LONG_S)


def measures_for(seconds: float, turn: Turn) -> float:
    with turn:
        time.sleep(seconds)
    return seconds


def refuses(_: object, turn: Turn) -> None:
    raise BackendUnavailable("cuda", "its library is damaged", "delete it")


def has_a_bug(_: object, turn: Turn) -> None:
    raise KeyError("a fault of the harness")


class Awkward(Exception):
    """Pickled by its one argument, and made of two."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


class NoException(BaseException):
    """As an exit or an interrupt is none."""


RAISED = {
    "awkward": lambda: Awkward("a bug", "line 3"),
    "unpicklable": lambda: ValueError("a bug", threading.Lock()),
    "no exception": lambda: NoException("a bug"),
    "exit": lambda: SystemExit("a bug"),
}


def raises(name: str, turn: Turn) -> None:
    raise RAISED[name]()


@dataclass(frozen=True)
class Unreadable:
    """A job that no process can be given."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.strerror, ("no number",)


def dies_while_it_waits(place: int, turn: Turn) -> None:
    """The second dies as soon as the first measures."""
    if place:
        threading.Timer(0.3, os._exit, (139,)).start()
    with turn:
        time.sleep(0.6)


def dies_with_an_unread_word(place: int, turn: Turn) -> None:
    """The second says that it is ready, and never hears that it may go on."""
    if place:
        connection(turn).send(Ready())
        time.sleep(0.6)
        os._exit(139)
    with turn:
        pass


def dies_in_the_middle_of_a_word(_: object, turn: Turn) -> None:
    os.write(connection(turn).fileno(), (1000).to_bytes(4, "big") + b"cut short")
    os._exit(139)


def connection(turn: Turn) -> Connection:
    found = turn._connection
    assert found is not None
    return found


def leaves_a_thread(_: object, turn: Turn) -> None:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()


def closes_what_it_was_given(_: object, turn: Turn) -> None:
    os.closerange(3, 64)
    time.sleep(LONG_S)


def says_where_it_speaks(_: object, turn: Turn) -> bool:
    return (sys.stdout, sys.stderr) == (sys.__stdout__, sys.__stderr__)


def fails_unless_first(place: int, turn: Turn) -> int:
    if place:
        raise KernelFailed("it fails")
    time.sleep(LONG_S)
    return place


def together(work: object, *jobs: object, timeout_s: float = LONG_S, fork: bool = False) -> list[object]:
    """run_together with a function of this module."""
    name = getattr(work, "__name__", "")
    return run_together(f"{__name__}:{name}", jobs, timeout_s, fork, lambda pids: pids)


@FORK
def test_each_is_a_process_of_its_own(fork: bool) -> None:
    """Replicates share no memory layout."""
    assert len({*together(own_pid, None, None, fork=fork), os.getpid()}) == 3


@FORK
def test_nothing_builds_or_measures_while_one_measures(tmp_path: Path, fork: bool) -> None:
    """Turns of a round follow each other, after all have built and before any goes on."""
    logs = [tmp_path / name for name in "012"]
    assert together(takes_turns, *logs, fork=fork) == [3, 3, 3]  # within a turn each knows its siblings
    events = sorted(
        (float(at), what, log.name) for log in logs for at, what in map(str.split, log.read_text().splitlines())
    )
    kinds = [what for _, what, _ in events]
    for start in (0, 12):
        building, turns = kinds[start : start + 6], kinds[start + 6 : start + 12]
        assert sorted(building) == ["build"] * 3 + ["built"] * 3
        assert turns == ["measure", "measured"] * 3
    measured = [name for _, what, name in events if what == "measure"]
    assert sorted(measured[:3]) == sorted(measured[3:]) == ["0", "1", "2"]


def test_waiting_for_a_turn_is_not_counted_as_time() -> None:
    """A process is given its whole time, however many there are before it."""
    assert together(measures_for, 0.5, 0.5, 0.5, 0.5, timeout_s=1.8, fork=True) == [0.5] * 4


@FORK
def test_a_crash_is_the_kernels_failure(fork: bool) -> None:
    """A process that dies says how."""
    with pytest.raises(KernelFailed, match=r"^its process died while it ran \(exit status 139\)$"):
        together(exits, 139, fork=fork)
    with pytest.raises(KernelFailed, match=r"^its process died while it ran \(SIGSEGV\)$"):
        together(dies_of, signal.SIGSEGV, fork=fork)


@pytest.mark.parametrize("work", [dies_while_it_waits, dies_with_an_unread_word, dies_in_the_middle_of_a_word])
def test_a_crash_is_one_at_any_moment(work: object) -> None:
    """What the pipe to a dead process says, whenever it died, is no fault of the harness."""
    with pytest.raises(KernelFailed, match=r"^its process died while it ran \(exit status 139\)$"):
        together(work, 0, 1, fork=True)


def test_a_process_that_cannot_begin_is_no_kernels_failure() -> None:
    """A source that was half saved while its run went on blames no kernel."""
    with pytest.raises(RuntimeError, match=r"^a process died before it began \(exit status 1\); the log says why$"):
        together(own_pid, Unreadable())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_from_outside_is_no_kernels_failure(number: signal.Signals) -> None:
    """A killed process leaves nothing to record."""
    with pytest.raises(Killed, match=rf"killed from outside \({number.name}.*run again$"):
        together(dies_of, number, fork=True)


@FORK
def test_a_process_that_hangs_is_killed(tmp_path: Path, fork: bool) -> None:
    """A kernel that never ends gives the GPU back."""
    start, timeout_s = time.monotonic(), 1.0 if fork else 3.0  # a new interpreter needs a while to begin
    with pytest.raises(KernelHung, match=rf"^it did not end within {timeout_s:g} s and was killed$") as caught:
        together(hangs, tmp_path / "pid", timeout_s=timeout_s, fork=fork)
    assert "timeout_s" in caught.value.fix
    assert time.monotonic() - start < LONG_S / 2
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("work", [leaves_a_thread, closes_what_it_was_given])
def test_a_process_that_does_not_end_is_killed(work: object) -> None:
    """One that has returned, or has closed its pipes, has its time and no more."""
    others = set(multiprocessing.active_children())  # of another test's, which runs on
    with pytest.raises(KernelHung, match=r"^it did not end within 2 s and was killed$"):
        together(work, None, timeout_s=2.0, fork=True)
    assert set(multiprocessing.active_children()) <= others


def test_one_that_fails_ends_the_others() -> None:
    """A failure is told at once, and no process is left."""
    start, others = time.monotonic(), set(multiprocessing.active_children())
    with pytest.raises(KernelFailed, match="it fails"):
        together(fails_unless_first, 0, 1, fork=True)
    assert time.monotonic() - start < LONG_S / 2
    assert set(multiprocessing.active_children()) <= others


@FORK
def test_what_a_process_raises_keeps_its_reason(fork: bool) -> None:
    """An error with more than one argument arrives as it was raised."""
    with pytest.raises(BackendUnavailable, match="is unavailable: its library is damaged; delete it") as caught:
        together(refuses, None, fork=fork)
    assert (caught.value.reason, caught.value.fix) == ("its library is damaged", "delete it")


def test_a_fault_of_the_harness_arrives_with_its_traceback() -> None:
    """An error of ours is raised with the traceback of the process in which it arose."""
    with pytest.raises(KeyError, match="a fault of the harness") as caught:
        together(has_a_bug, None)
    assert any("in has_a_bug" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("name", list(RAISED))
def test_an_error_arrives_whatever_its_class_can_do(name: str) -> None:
    """One that cannot be made again here, or would end this process, arrives as one that says the same."""
    with pytest.raises(RuntimeError, match="a bug") as caught:
        together(raises, name, fork=True)
    assert any("in raises" in note for note in caught.value.__notes__)


def test_a_fork_speaks_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's progress bar stands in for its output, and a fork may have copied its lock while it was held."""
    monkeypatch.setattr(sys, "stdout", StringIO())
    assert together(says_where_it_speaks, None, fork=True) == [True]
