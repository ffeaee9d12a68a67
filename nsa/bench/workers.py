"""Processes that work side by side and measure one after the other: each replicate is one of them.

A worker builds what it measures while the others do the same, and then waits for its turn; in a turn it is alone, the
others wait. After a round of turns all of them go on. So nothing builds or loads while anything is timed, and the time
that a process takes to start is spent once for all of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Generic, Self, TypeVar

from nsa.backends import resolve
from nsa.errors import KernelFailed, KernelHung, Killed
from nsa.machine.process import die_with_parent

J = TypeVar("J")
R = TypeVar("R")

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # no kernel ends its process by these


@dataclass(frozen=True)
class Ready:
    """A worker's word that it waits for its turn."""


@dataclass(frozen=True)
class Granted:
    """The parent's word that a turn begins, or that its round is over; `ours`: the pids of the run's own processes."""

    ours: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Measured:
    """A worker's word that its turn is over."""


@dataclass(frozen=True)
class Done(Generic[R]):
    """What a worker returned."""

    result: R


@dataclass(frozen=True)
class Raised:
    """What a worker raised, with its traceback as text."""

    error: BaseException
    text: str


Word = Ready | Measured | Done[R] | Raised  # what a worker says


class Turn:
    """A worker's turn: `with turn:` waits until it is alone, and afterwards until each worker has had its turn.

    Without a connection the process is alone anyway.

    Attributes:
        ours: within a turn, the processes of the run, by the numbers that NVML gives them.
    """

    def __init__(self, connection: Connection[Ready | Measured, Granted] | None = None) -> None:
        self._connection = connection
        self.ours: frozenset[int] = frozenset()
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._connection.send(Ready())
            self.ours = self._wait().ours
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None and error is None:
            self._connection.send(Measured())
            self._wait()

    def _wait(self) -> Granted:
        assert self._connection is not None
        start = time.monotonic()
        granted = self._connection.recv()
        self.waited_s += time.monotonic() - start
        return granted


@dataclass
class Worker(Generic[R]):
    """One process, as its parent sees it; `left_s` is what remains of its time, which runs while it works."""

    process: multiprocessing.process.BaseProcess
    connection: Connection[Granted, Word[R]]
    left_s: float
    timeout_s: float
    since: float = field(default_factory=time.monotonic)
    waiting: bool = False
    done: Done[R] | None = None

    def remaining_s(self) -> float:
        """What is left of its time, now."""
        return self.left_s - (time.monotonic() - self.since)

    def hear(self) -> Ready | Measured | Done[R]:
        """Its next word.

        Raises:
            KernelHung: it says nothing in its time; it is killed.
            KernelFailed: it died: a crash.
            Killed: it was killed from outside.
        """
        if not self.connection.poll(max(0.0, self.remaining_s())):
            self.process.kill()
            raise KernelHung(f"it did not end within {self.timeout_s:g} s and was killed")
        try:
            word = self.connection.recv()
        except EOFError:
            self.process.join()
            raise _death(self.process.exitcode) from None
        self.left_s = self.remaining_s()
        self.since = time.monotonic()
        if isinstance(word, Raised):
            word.error.add_note(f"in a process of its own:\n{word.text}")
            raise word.error
        return word

    def grant(self, ours: frozenset[int]) -> None:
        """Let it go on; its time runs again."""
        self.since = time.monotonic()
        self.connection.send(Granted(ours))


def run_together(
    work: str,
    jobs: Sequence[J],
    timeout_s: float,
    fork: bool,
    ours: Callable[[frozenset[int]], frozenset[int]],
    meanwhile: Callable[[], object] = lambda: None,
) -> list[R]:
    """Call `work` with each job and a Turn, each in a process of its own that dies with this one.

    Args:
        work: "module:function", imported in the processes and, unless they fork, not here.
        jobs: one argument for each process.
        timeout_s: how long one may take, without what it waits for its turns.
        fork: share what is imported instead of starting new interpreters; for a CPU only, whose times decide nothing.
        ours: which of the GPU's processes are the workers, from their own numbers; asked when all of them are ready.
        meanwhile: called once they have started, which takes them seconds.

    Returns:
        What each returned, in the order of the jobs.

    Raises:
        KernelHung, KernelFailed, Killed: see Worker.hear.
        Exception: whatever one of them raised. The others are killed.
    """
    context = multiprocessing.get_context("fork" if fork else "spawn")
    if fork:
        importlib.import_module(work.partition(":")[0])  # once, for all of them
    workers: list[Worker[R]] = []
    try:
        for job in jobs:
            workers.append(_start(context, work, job, timeout_s))
        meanwhile()
        while busy := [worker for worker in workers if worker.done is None]:
            if all(worker.waiting for worker in busy):
                _round(busy, ours(frozenset(worker.process.pid or 0 for worker in workers)))
            else:
                _listen([worker for worker in busy if not worker.waiting])
    finally:
        for worker in workers:
            if worker.done is None:
                worker.process.kill()
            worker.process.join()
            worker.connection.close()
    return [worker.done.result for worker in workers if worker.done is not None]


def _start(context: BaseContext, work: str, job: J, timeout_s: float) -> Worker[R]:
    here, there = multiprocessing.Pipe()
    process: multiprocessing.process.BaseProcess = context.Process(  # type: ignore[attr-defined]
        target=_work, args=(there, here, work, job, os.getpid())
    )
    process.start()
    there.close()
    return Worker(process, here, timeout_s, timeout_s)


def _listen(working: Sequence[Worker[R]]) -> None:
    """Wait until one of them says something, or one's time is over."""
    heard = wait([worker.connection for worker in working], max(0.0, min(w.remaining_s() for w in working)))
    for worker in working:
        if worker.connection in heard or worker.remaining_s() <= 0:
            _note(worker, worker.hear())


def _round(ready: Sequence[Worker[R]], ours: frozenset[int]) -> None:
    """Give each its turn, one after the other; then let all go on."""
    for worker in ready:
        worker.grant(ours)
        _note(worker, worker.hear())
    for worker in ready:
        if worker.done is None:
            worker.waiting = False
            worker.grant(ours)


def _note(worker: Worker[R], word: Ready | Measured | Done[R]) -> None:
    if isinstance(word, Done):
        worker.done = word
    else:
        worker.waiting = True


def _work(
    connection: Connection[Word[object], Granted],
    parents: Connection[Granted, Word[object]],
    work: str,
    job: J,
    parent: int,
) -> None:
    """What the process does: the call, and its end as a word to the parent."""
    parents.close()  # in a fork it would keep the parent's end open
    die_with_parent(parent)
    try:
        connection.send(Done(resolve(work)(job, Turn(connection))))
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        traceback.print_exc()  # into the job's log
        _send(connection, error)
        raise SystemExit(0) from None


def _send(connection: Connection[Word[object], Granted], error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):  # the parent is gone
        try:
            connection.send(Raised(error, text))
        except (TypeError, AttributeError, ValueError):  # it cannot be pickled
            connection.send(Raised(RuntimeError(f"{type(error).__name__}: {error}"), text))


def _death(exitcode: int | None) -> KernelFailed | Killed:
    """What a dead process says of who killed it."""
    if exitcode is not None and -exitcode in FROM_OUTSIDE:
        name = signal.Signals(-exitcode).name
        return Killed(
            f"its process was killed from outside ({name}: a user, a scheduler, or no memory left); run again"
        )
    how = signal.Signals(-exitcode).name if exitcode is not None and exitcode < 0 else f"exit status {exitcode}"
    return KernelFailed(f"its process died while it ran ({how})")
