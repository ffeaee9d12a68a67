"""The candidate's process as its judge uses it: what is asked, the memory that both see, and what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from pydantic import JsonValue

from nsa.bench.apart import wire
from nsa.bench.apart.arena import Arena, Place
from nsa.bench.apart.server import Server
from nsa.config import Flags
from nsa.machine.host import Machine

ENTRY = "nsa.kernels.registry:load"


class Channel(Protocol):
    """What answers: nsa.bench.apart.process.CandidateProcess, or a server of this process."""

    name: str

    def ask(self, request: wire.Request) -> JsonValue:
        """Ask, and wait for the answer; raises as nsa.bench.apart.wire.opened."""


def load(channel: Channel, machine: Machine, flags: Flags, device: torch.device, timed: bool) -> None:
    """Have the backend loaded.

    Args:
        channel: to the process that was started for it.
        machine, flags: see nsa.kernels.registry.load.
        device: of all tensors.
        timed: whether its graphs are timed, on CUDA.

    Raises:
        BackendUnavailable, KernelFailed, NoMemory, RecordError: as nsa.kernels.registry.load.
    """
    channel.ask(wire.Load(ENTRY, channel.name, machine, flags, device, timed))


def about(channel: Channel, what: str) -> list[JsonValue]:
    """The backend's "notes", or the switches of torch that are "switched"."""
    said = channel.ask(wire.About())
    found = said.get(what) if isinstance(said, dict) else None
    if not isinstance(found, list):
        raise wire.no_answer(channel.name)
    return found


class Here:
    """A server of this process: one that attacks its judge would reach it."""

    def __init__(self, server: Server) -> None:
        self.name, self._server = server.name, server

    def ask(self, request: wire.Request) -> JsonValue:
        """See Channel."""
        return self._server.asked(request)


class Peer:
    """A channel, and the memory that both of its ends see.

    Args:
        channel: that is asked.
        device: of all tensors.
        reserve: bytes of memory that both see; more is made where it is needed.
    """

    def __init__(self, channel: Channel, device: torch.device, reserve: int) -> None:
        self.name, self.device, self._channel = channel.name, device, channel
        self.arena = Arena(device, lambda number, tensor: self.ask(wire.Segment(number, tensor)), reserve)

    def ask(self, request: wire.Request) -> JsonValue:
        """Ask once all that this process has begun is done."""
        self.wait()
        return self._channel.ask(request)

    def clocked(self, give: Callable[[], object], request: wire.Request) -> tuple[float, JsonValue]:
        """Nanoseconds in which inputs are given and a request is answered, by this process's clock, and the answer."""
        self.wait()
        start = time.perf_counter_ns()
        give()
        said = self.ask(request)
        return float(time.perf_counter_ns() - start), said

    def wait(self) -> None:
        """All that this process has begun on the device is done: no event tells the other process."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def placing(self) -> Iterator[None]:
        """What is placed inside is given back."""
        mark = self.arena.mark()
        try:
            yield
        finally:
            self.arena.back(mark)

    def output(self, place: Place, odd: JsonValue, repetitions: int | None = None) -> torch.Tensor:
        """An output where it lies; of one that is none, something of its shape and dtype."""
        if odd is None:
            return self.arena.view(place)
        try:
            assert isinstance(odd, dict) and isinstance(odd["shape"], list)
            shape, dtype = [int(str(size)) for size in odd["shape"]], getattr(torch, str(odd["dtype"]))
            value = torch.full((), torch.nan if dtype.is_floating_point else 0, dtype=dtype, device=self.device)
            return value.expand(shape if repetitions is None else [repetitions, *shape])
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise wire.no_answer(self.name) from error

    def times(self, said: JsonValue, repetitions: int) -> list[int]:
        """So many nanoseconds."""
        values = self.each(said, repetitions)
        found = [value for value in values if isinstance(value, int)]
        if len(found) < len(values):
            raise wire.no_answer(self.name)
        return found

    def each(self, said: JsonValue, count: int | None = None) -> list[JsonValue]:
        """A list, of so many values."""
        if not isinstance(said, list) or (count is not None and len(said) != count):
            raise wire.no_answer(self.name)
        return said
