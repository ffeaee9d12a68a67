"""The candidate's core, which runs in its own process, as the judge calls and times it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from nsa.bench.apart.burst import Clocked, Kind, bursts
from nsa.bench.apart.peer import Channel, Peer
from nsa.bench.apart.wire import Prepare, Release
from nsa.bench.core import wire
from nsa.bench.core.inputs import CoreCall
from nsa.bench.core.replays import Replays
from nsa.bench.core.subject import Gave, Kept, Subject
from nsa.bench.method.accuracy import same_bits
from nsa.bench.method.timing import CudaTimer
from nsa.kernels.core import SEL
from nsa.records.words import Row


class RemoteCore:
    """A core that takes calls.

    Args:
        channel: to the process that runs it.
        device: of all tensors.
        reserve: bytes of memory that both see; more is made where a call needs it.
        timed: whether it is timed, on CUDA.
        copies: whether it has copies of inputs; without, within one process, caches may fill the memory, and nothing
            tells that an input was changed.
    """

    def __init__(self, channel: Channel, device: torch.device, reserve: int, timed: bool, copies: bool = True) -> None:
        self._peer, self._timed, self._copies = Peer(channel, device, reserve), timed, copies

    @contextmanager
    def bound(self, call: CoreCall) -> Iterator[BoundCore]:
        """The core on copies of a call's inputs; given back at the end, but not where something has failed."""
        mark = self._peer.arena.mark()
        placed = wire.Placed.of(call, self._peer.arena) if self._copies else None
        self._peer.ask(wire.Bind(placed or call))
        yield BoundCore(self._peer, call, placed, self._timed)
        self._peer.ask(Release())
        self._peer.arena.back(mark)


class BoundCore:
    """A core on copies of one call's inputs; the judge alone has the call.

    Attributes:
        last: the timed replay whose inputs the core has now.
    """

    def __init__(self, peer: Peer, call: CoreCall, placed: wire.Placed | None, timed: bool) -> None:
        self._peer, self._call, self._placed, self._timed = peer, call, placed, timed
        self.last = 0

    def give(self) -> None:
        """Make its inputs those of the judge's call."""
        for place, tensor in zip(self._placed.tensors, wire.flat(self._call), strict=True) if self._placed else ():
            self._peer.arena.write(place, tensor)

    def changed(self) -> str | None:
        """Which of its inputs is not that of the judge's call, as a fault; None when all are."""
        if self._placed is None:
            return None
        there = self._placed.view(self._peer.arena.segments).read()
        for name, tensor in self._call.read().items():
            if not same_bits(there[name], tensor):
                return f"the input {name} was changed"
        return None

    def once(self) -> Gave:
        """One call, not captured; raises as nsa.bench.core.subject.bound does."""
        return self._gave(wire.Once)

    def subject(self, columns: Row, replays: Replays) -> Subject:
        """Make it ready to be timed, under the name of its rows."""
        name, kept = str(columns["backend"]), list[Kept]()
        self._peer.ask(Prepare(name))

        def measure(repetitions: int) -> list[int]:
            first, arena = replays.count, self._peer.arena
            replays.count += repetitions
            self.last = replays.count - 1
            drawn = zip(*(replays.of(first + each) for each in range(repetitions)), strict=True)
            with self._peer.placing():
                places = tuple(arena.place(each) for each in replays.places)
                new = tuple(arena.place(torch.stack(parts)) for parts in drawn)
                outputs = self._outputs((repetitions,))
                said = self._peer.ask(wire.Time(name, places, new, outputs))
                output, blocks = (arena.view(place) for place in outputs)
                for each in range(repetitions):  # at once: from here on they are the judge's own
                    kept.append(Kept(first + each, output[each].clone(), blocks[each].clone()))
            return self._peer.times(said, repetitions if self._timed else 0)

        return Subject(columns, measure, lambda: self._gave(partial(wire.Replay, name)), kept)

    def bursts(self, name: str, replays: Replays, events_ns: float, timer: CudaTimer) -> list[Clocked]:
        """Time replays of what is prepared without a pause; see nsa.bench.apart.burst.bursts.

        Args:
            name: of what is prepared.
            replays: of the bound inputs; the queries are drawn as theirs are.
            events_ns: the median of its timed replays, by the process's events.
            timer: of this process.
        """

        def queries(count: int) -> torch.Tensor:
            first, replays.count = replays.count, replays.count + count
            return replays.queries(count, first)

        q = self._call.q
        outputs = [(self._output_shape, q.dtype), (tuple(self._call.block_indices.shape), torch.int32)]
        return bursts(self._peer, Kind(name, q, outputs, queries), events_ns, timer)

    @property
    def _output_shape(self) -> tuple[int, ...]:
        return (*self._call.q.shape[:3], self._call.v[SEL].shape[3])

    def _gave(self, request: type[wire.Once] | partial[wire.Replay]) -> Gave:
        with self._peer.placing():
            outputs = self._outputs()
            self._peer.ask(request(outputs=outputs))
            output, blocks = (self._peer.arena.view(place).clone() for place in outputs)
        return output, blocks

    def _outputs(self, repetitions: tuple[int, ...] = ()) -> wire.Outputs:
        """Poisoned memory for what calls give."""
        arena, call = self._peer.arena, self._call
        output = arena.poisoned((*repetitions, *self._output_shape), call.q.dtype)
        return output, arena.poisoned((*repetitions, *call.block_indices.shape), torch.int32)
