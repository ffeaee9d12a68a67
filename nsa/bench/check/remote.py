"""The candidate's kernel, which runs in its own process, as the judge calls, times and judges it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nsa.bench.apart.arena import Mark, bytes_of
from nsa.bench.apart.burst import Clocked, Kind, bursts
from nsa.bench.apart.peer import Channel, Peer
from nsa.bench.apart.wire import Prepare, Release, no_answer
from nsa.bench.check import wire
from nsa.bench.method.accuracy import same_bits
from nsa.bench.method.candidate import KernelCandidate, Returned
from nsa.bench.method.inputs import Call
from nsa.bench.method.remote import RemoteKernel
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import CudaTimer
from nsa.records.words import Row


@dataclass(frozen=True)
class RemoteCandidate(KernelCandidate):
    """A kernel that is ready to be timed in its process.

    Attributes:
        remote: the kernel.
        inputs: the inputs that it has: as the judge's call, unless it changed them.
        give: make them those of the judge's call.
    """

    remote: Remote
    inputs: Callable[[], Call]
    give: Callable[[], None]


@dataclass
class State:
    """What is bound in the process, and since which mark of the memory."""

    bound: tuple[Mark, wire.Placed] | None = None


class Remote(RemoteKernel):
    """The kernel of a candidate's process; see RemoteKernel.

    Args:
        channel: to the process that runs it.
        device: of all tensors.
        reserve: bytes of memory that both see; more is made where a call needs it.
    """

    def __init__(self, channel: Channel, device: torch.device, reserve: int) -> None:
        self._peer, self._taken = Peer(channel, device, reserve), False
        self._arena = self._peer.arena
        self._state = State()

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor:
        (output,) = self.together([Call(q, k, v, block_indices, seq_lens, block_size)])
        return output

    def having_taken(self) -> RemoteKernel:
        same = copy.copy(self)  # in the same process, with the same memory and state
        same._taken = True
        return same

    def together(self, calls: Sequence[Call]) -> list[torch.Tensor]:
        with self._peer.placing():
            placed = [self._place(call) for call in calls]
            places = [self._arena.poisoned(_output_shape(call), call.q.dtype) for call in calls]
            said = self._peer.ask(wire.Calls(tuple(placed), tuple(places), self._taken))
            odd = self._peer.each(said, len(calls))
            outputs = [self._peer.output(*each).clone() for each in zip(places, odd, strict=True)]
            for call, there in zip(calls, placed, strict=True):
                self._take_back(call, there)
        return outputs

    def launched(self, call: Call) -> list[str]:
        with self._peer.placing():
            return [str(name) for name in self._peer.each(self._peer.ask(wire.Launched(self._place(call))))]

    def prepare(self, columns: Row, replays: Replays, returned: Returned) -> KernelCandidate:
        name, call = str(columns["backend"]), replays.call
        if self._state.bound is None:
            mark = self._arena.mark()
            placed = self._place(call)
            self._state.bound = mark, placed
            self._peer.ask(wire.Bind(placed, tuple(replays.changed.tolist())))
        _, bound = self._state.bound
        self._peer.ask(Prepare(name))
        shape, dtype = _output_shape(call), call.q.dtype

        def give() -> None:
            for place, tensor in zip(bound.tensors, call[:5], strict=True):
                self._arena.write(place, tensor)

        def replay() -> torch.Tensor:
            give()
            with self._peer.placing():
                place = self._arena.poisoned(shape, dtype)
                (odd,) = self._peer.each(self._peer.ask(wire.Replay(name, place)), 1)
                output = self._peer.output(place, odd).clone()
            self._take_back(call, bound)
            return output

        def time(repetitions: int) -> list[int]:
            first = replays.count
            replays.count += repetitions
            drawn = [replays.draw(first + each) for each in range(repetitions)]
            with self._peer.placing():
                parts = [torch.stack([getattr(each, part) for each in drawn]) for part in ("q", "token", "k", "v")]
                place = self._arena.poisoned((repetitions, *shape), dtype)
                said = self._peer.ask(wire.Time(name, wire.Block(*map(self._arena.place, parts)), place))
                if not isinstance(said, dict):
                    raise no_answer(self._peer.name)
                outputs = self._peer.output(place, said.get("odd"), repetitions)
                for each in range(repetitions):
                    returned.keep(outputs[each], first + each)  # at once: from here on they are the judge's own
            return self._peer.times(said.get("ns"), repetitions)

        def inputs() -> Call:
            return bound.view(self._arena.segments)

        return RemoteCandidate(columns, time, replay, returned, replay, self, inputs, give)

    def bursts(self, name: str, replays: Replays, events_ns: float, timer: CudaTimer) -> list[Clocked]:
        """Time replays of what is prepared without a pause, see nsa.bench.apart.burst.bursts.

        Args:
            name: of what is prepared.
            replays: of the bound inputs; the queries are drawn from them.
            events_ns: the median of the timed replays, by the process's events.
            timer: of this process.
        """
        call = replays.call
        kind = Kind(name, call.q, [(_output_shape(call), call.q.dtype)], replays.queries)
        return bursts(self._peer, kind, events_ns, timer)

    def release(self) -> None:
        """Give up what is prepared."""
        if self._state.bound is not None:
            self._peer.ask(Release())
            self._arena.back(self._state.bound[0])
            self._state.bound = None

    def _place(self, call: Call) -> wire.Placed:
        self._arena.room(bytes_of(call[:5]))
        return wire.Placed(tuple(self._arena.place(tensor) for tensor in call[:5]), call.block_size)

    def _take_back(self, call: Call, placed: wire.Placed) -> None:
        """What the kernel did to its inputs is done to the judge's."""
        for tensor, place in zip(call[:5], placed.tensors, strict=True):
            there = self._arena.view(place)
            if not same_bits(there, tensor):
                tensor.copy_(there)


def _output_shape(call: Call) -> tuple[int, ...]:
    return (*call.q.shape[:3], call.v.shape[3])
