"""Processes that work side by side and measure one after the other: each replicate is one of them.

A worker builds what it measures while the others do the same, and then waits for its turn; in a turn it is alone, the
others wait. After a round of turns all of them go on. So nothing builds or loads while anything is timed, and the time
that a process takes to start is spent once for all of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from typing import Generic, TypeVar

from nsa.bench.turn import Done, Granted, Measured, Raised, Ready, Started, Turn, Word, serve
from nsa.errors import KernelFailed, KernelHung, Killed
from nsa.machine.process import how_it_ended, killed_from_outside

__all__ = ["Turn", "run_together"]

J = TypeVar("J")
R = TypeVar("R")

POLL_S = 0.01  # between looks at a process that is about to end


@dataclass
class Worker(Generic[R]):
    """One process, as its parent sees it; `left_s` is what remains of its time, which runs while it works."""

    process: multiprocessing.process.BaseProcess
    connection: Connection[Granted, Word[R]]
    left_s: float
    timeout_s: float
    since: float = field(default_factory=time.monotonic)
    started: bool = False
    waiting: bool = False
    helpers: frozenset[int] = frozenset()
    done: Done[R] | None = None

    @property
    def pids(self) -> set[int]:
        """Its process and those that it has started."""
        return {self.process.pid or 0, *self.helpers}

    def remaining_s(self) -> float:
        """What is left of its time, now."""
        return max(0.0, self.left_s - (time.monotonic() - self.since))

    def hear(self) -> None:
        """Take its next word.

        Raises:
            KernelHung: it says nothing in its time; it is killed.
            KernelFailed: it died: a crash.
            Killed: it was killed from outside.
            Exception: what it raised.
        """
        if not self.connection.poll(self.remaining_s()):
            raise self._hung()
        try:
            word = self.connection.recv()
        except (EOFError, OSError):  # closed, reset or cut short by its death
            raise self._death() from None
        self.left_s = self.remaining_s()
        self.since = time.monotonic()
        match word:
            case Raised():
                raise word.error()
            case Done():
                self.done = word
            case Started():
                self.started = True
            case Ready():
                self.waiting, self.helpers = True, word.helpers
            case Measured():
                self.waiting = True

    def grant(self, ours: frozenset[int]) -> None:
        """Let it go on; its time runs again. Raises as hear does, where it died while it waited."""
        self.since = time.monotonic()
        self.waiting = False
        try:
            self.connection.send(Granted(ours))
        except OSError:  # nobody reads it
            raise self._death() from None

    def end(self) -> None:
        """Wait for the end of its process, in the time that is left to it.

        Raises:
            KernelHung: something in it never ends: a thread, what runs at exit; it is killed.
        """
        while self.process.exitcode is None:  # join trusts a pipe, which the process may have closed
            if self.remaining_s() == 0:
                raise self._hung()
            time.sleep(POLL_S)

    def _hung(self) -> KernelHung:
        self.process.kill()
        return KernelHung(f"it did not end within {self.timeout_s:g} s and was killed")

    def _death(self) -> KernelFailed | Killed | RuntimeError:
        """What a process that says no more says of who ended it."""
        self.end()
        exitcode = self.process.exitcode or 0
        how = how_it_ended(exitcode)
        if killed_from_outside(exitcode):
            return Killed(
                f"its process was killed from outside ({how}: a user, a scheduler, or no memory left); run again"
            )
        if not self.started:  # the interpreter, or a source that was being edited
            return RuntimeError(f"a process died before it began ({how}); the log says why")
        return KernelFailed(f"its process died while it ran ({how})")


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
    context = multiprocessing.get_context("fork") if fork else multiprocessing.get_context("spawn")
    if fork:
        importlib.import_module(work.partition(":")[0])  # once, for all of them
    workers: list[Worker[R]] = []
    try:
        for job in jobs:
            workers.append(_start(context, work, job, timeout_s))
        meanwhile()
        while busy := [worker for worker in workers if worker.done is None]:
            if all(worker.waiting for worker in busy):
                _round(busy, ours(frozenset().union(*(worker.pids for worker in workers))))
            else:
                _listen([worker for worker in busy if not worker.waiting])
        for worker in workers:
            worker.end()
    finally:
        for worker in workers:
            worker.process.kill()  # those that have not ended
            worker.process.join()
            worker.connection.close()
    return [worker.done.result for worker in workers if worker.done is not None]


def _start(context: ForkContext | SpawnContext, work: str, job: J, timeout_s: float) -> Worker[R]:
    here, there = multiprocessing.Pipe()
    process: multiprocessing.process.BaseProcess = context.Process(
        target=serve, args=(there, here, work, job, os.getpid())
    )
    process.start()
    there.close()
    return Worker(process, here, timeout_s, timeout_s)


def _listen(working: Sequence[Worker[R]]) -> None:
    """Wait until one of them says something, or one's time is over."""
    heard = wait([worker.connection for worker in working], min(worker.remaining_s() for worker in working))
    for worker in working:
        if worker.connection in heard or worker.remaining_s() == 0:
            worker.hear()


def _round(ready: Sequence[Worker[R]], ours: frozenset[int]) -> None:
    """Give each its turn, one after the other; then let all go on."""
    for worker in ready:
        worker.grant(ours)
        worker.hear()
    for worker in ready:
        if worker.done is None:
            worker.grant(ours)
