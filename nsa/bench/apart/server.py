"""The candidate's process: it loads one backend and does with it what the judge asks (docs/kernel_check.md).

It has no results, no seed, and no inputs but those that the judge gives it, block by block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import torch
from pydantic import JsonValue

from nsa.backends import resolve
from nsa.bench.apart import wire
from nsa.bench.apart.steps import Outputs, Steps, copied
from nsa.bench.method import switches
from nsa.bench.method.timing import CudaTimer
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.failures import BackendBroken


class Server(ABC):
    """A backend, and what was made of it."""

    def __init__(self) -> None:
        self.name = "candidate"
        self._segments: dict[int, torch.Tensor] = {}
        self._device = torch.device("cpu")
        self._backend: Backend | None = None
        self._timer: CudaTimer | None = None
        self._steps: Steps | None = None
        self._before = switches.read()

    def asked(self, request: wire.Request) -> JsonValue:
        """Do what a request says; all of it is done when this returns."""
        value = self._do(request)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return value

    @abstractmethod
    def further(self, request: wire.Request) -> JsonValue:
        """What the check asks beside what every check does."""

    @property
    @abstractmethod
    def query(self) -> torch.Tensor:
        """That of the bound inputs, [B, G, h, D]."""

    @abstractmethod
    def call(self) -> Callable[[], Outputs]:
        """A call on the bound inputs."""

    @abstractmethod
    def prepared(self, name: str) -> tuple[Callable[[], object], Callable[[], Outputs]]:
        """A replay of what is prepared under a name, bare, and one into poisoned memory."""

    @property
    def backend(self) -> Backend:
        """What was loaded."""
        assert self._backend is not None
        return self._backend

    def take(self, name: str, load: Callable[[], object], device: torch.device, timed: bool) -> None:
        """Load the backend; see nsa.bench.apart.wire.Load."""
        self.name, self._device = name, device
        if not timed:
            torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
        self._before = switches.read()
        loaded = load()
        if not isinstance(loaded, Backend):
            raise BackendBroken(f"{name}: what was loaded is no backend but a {type(loaded).__name__}")
        self._backend = loaded
        if timed:
            self._timer = CudaTimer(device)

    def _do(self, request: wire.Request) -> JsonValue:
        match request:
            case wire.Ping():
                return None
            case wire.Segment():
                self._segment(request)
            case wire.Load():
                load = partial(resolve(request.entry), request.name, request.machine, request.flags)
                self.take(request.name, load, request.device, request.timed)
            case wire.About():
                switched = switches.changed(self._before, switches.read())
                return {"notes": [*registry.notes(self.backend)], "switched": [*switched]}
            case wire.PrepareSteps():
                queries, *outputs = (place.view(self._segments) for place in (request.q, *request.outputs))
                self._steps = Steps(self.query, self.call(), queries, outputs, self._timer)
            case wire.TakeSteps():
                assert self._steps is not None
                self._steps.go()
                return [*self._steps.odd]
            case wire.Burst():
                return self._burst(request)
            case wire.Release():
                self._steps = None
                return self.further(request)
            case _:
                return self.further(request)
        return None

    def _burst(self, request: wire.Burst) -> JsonValue:
        again, last = self.prepared(request.name)
        self.query.copy_(request.q.view(self._segments)[0])
        for _ in range(request.each - 1):
            again()
        return [copied(gave, into.view(self._segments)[0]) for gave, into in zip(last(), request.outputs, strict=True)]

    def _segment(self, request: wire.Segment) -> None:
        if request.tensor is None:
            del self._segments[request.number]
        else:
            self._segments[request.number] = request.tensor


def serve(connection: Connection[bytes, wire.Request], server: Server) -> None:
    """Answer, until the judge is gone."""
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 (torch opens no handle of the judge's)
            connection.send_bytes(wire.unreadable(error))
            continue
        try:
            said = wire.answer(server.asked(request))
        except BaseException as error:  # noqa: BLE001 (the judge raises it)
            said = wire.refusal(server.name, error)
        connection.send_bytes(said)
