"""The candidate's process as the judge sees it: it is started, asked, and found dead.

This imports no torch: the process is started before the judge does, so that both import it at the same time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pydantic import JsonValue

from nsa.backends import resolve
from nsa.errors import KernelFailed, Killed, NoSharedMemory
from nsa.machine.process import die_with_parent, how_it_ended, killed_from_outside

if TYPE_CHECKING:
    from nsa.bench.apart import wire

START: Final = "spawn"  # a new interpreter; a forked one would hold what the judge knows
GRACE_S = 5.0  # in which a process that says no more must have ended


class CandidateProcess:
    """The process that loads the candidate; it starts at once, dies with this one, and is killed at the end.

    Args:
        name: of the backend.
        server: "module:class" of the nsa.bench.apart.server.Server that answers there.

    Raises:
        KernelFailed: it died, or said what its harness does not say.
        Killed: it was killed from outside.
    """

    def __init__(self, name: str, server: str) -> None:
        self.name = name
        self._connection: Connection[wire.Request, bytes]
        context = multiprocessing.get_context(START)
        self._connection, there = multiprocessing.Pipe()
        self._process = context.Process(target=begin, args=(there, os.getpid(), server), daemon=True)
        self._process.start()
        there.close()
        self._answered = False

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def ready(self) -> None:
        """Wait until it has begun: what ends it from now on is what it loads."""
        from nsa.bench.apart import wire

        self.ask(wire.Ping())

    def ask(self, request: wire.Request) -> JsonValue:
        """Ask, and wait for the answer.

        Raises:
            NoSharedMemory: what is asked cannot be given to another process.
            Exception: what was refused, as nsa.bench.apart.wire.opened.
        """
        from nsa.bench.apart import wire

        try:
            self._connection.send(request)
            data = self._connection.recv_bytes(wire.MAX_BYTES)
        except (EOFError, OSError):  # closed, reset or cut short by its death
            raise self._death() from None
        except RuntimeError as error:  # torch makes no handle of a tensor
            raise NoSharedMemory(str(error).partition("\n")[0]) from error
        self._answered = True
        return wire.opened(self.name, data)

    def _death(self) -> KernelFailed | Killed | RuntimeError:
        self._process.join(GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            return KernelFailed(f"{self.name}: its process says no more and did not end; it was killed")
        how = how_it_ended(self._process.exitcode)
        if killed_from_outside(self._process.exitcode):
            return Killed(f"the candidate's process was killed from outside ({how}); run again")
        if not self._answered:
            return RuntimeError(f"the candidate's process died before it began ({how}); the log says why")
        return KernelFailed(f"{self.name}: its process died while it ran ({how})")


def begin(connection: Connection[bytes, wire.Request], judge: int, server: str) -> None:
    """What the process does, from its first moment on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it from outside, and is nothing that it raised
    die_with_parent(judge)
    from nsa.bench.apart.server import Server, serve

    made = resolve(server)()
    assert isinstance(made, Server)
    serve(connection, made)
