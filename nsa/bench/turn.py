"""A worker's own side: its turns, and what it says to its parent (nsa.bench.workers) until it ends."""

from __future__ import annotations

import pickle
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

from nsa.backends import resolve
from nsa.machine.process import die_with_parent

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Started:
    """A worker's first word: what ends it from now on is what it does, not how it was started."""


@dataclass(frozen=True)
class Ready:
    """A worker's word that it waits for its turn; `helpers`: pids of processes that it has started."""

    helpers: frozenset[int] = frozenset()


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
    """What a worker raised: pickled, where that was possible; in one line; and with its traceback as text."""

    pickled: bytes | None
    line: str
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What can be said of an error, whatever its class can do."""
        pickled: bytes | None = None
        if isinstance(error, Exception):  # SystemExit would end the parent as it ended the worker
            with suppress(Exception):
                pickled = pickle.dumps(error)
        line = traceback.format_exception_only(error)[-1].strip()
        return cls(pickled, line, "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """The error as it was raised, or one that says the same where its class cannot be made again here."""
        found: object = None
        if self.pickled is not None:
            with suppress(Exception):  # an __init__ with other arguments, a class that is not there, anything
                found = pickle.loads(self.pickled)
        error = found if isinstance(found, Exception) else RuntimeError(self.line)
        error.add_note(f"in a process of its own:\n{self.text}")
        return error


class Turn:
    """A worker's turn: `with turn:` waits until it is alone, and afterwards until each worker has had its turn.

    Without a connection the process is alone anyway.

    Attributes:
        ours: within a turn, the processes of the run, by the numbers that NVML gives them.
        helpers: processes that this one has started, which belong to the run.
    """

    def __init__(self, connection: Connection[Ready | Measured, Granted] | None = None) -> None:
        self._connection = connection
        self.ours: frozenset[int] = frozenset()
        self.helpers: frozenset[int] = frozenset()
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._connection.send(Ready(self.helpers))
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


Word = Started | Ready | Measured | Done[R] | Raised  # what a worker says


def serve(
    connection: Connection[Word[object], Granted],
    parents: Connection[Granted, Word[object]],
    work: str,
    job: J,
    parent: int,
) -> None:
    """What the process does: the call, and its end as a word to the parent."""
    parents.close()  # in a fork it would keep the parent's end open
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it from outside, and is nothing that it raised
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a fork has the parent's progress bar and its held locks
    die_with_parent(parent)
    try:
        connection.send(Started())
        connection.send(Done(resolve(work)(job, Turn(connection))))
    except BaseException as error:  # noqa: BLE001 (the parent raises it)
        traceback.print_exception(error)  # into the job's log
        with suppress(OSError):  # the parent is gone
            connection.send(Raised.of(error))
        raise SystemExit(0) from None
