"""The candidate's kernel, which runs in its own process, as the judge calls, times and judges it."""

from __future__ import annotations

import copy
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import JsonValue

from nsa.bench.check import wire
from nsa.bench.check.arena import Arena, Mark, Place, bytes_of
from nsa.bench.check.burst import BurstTimes
from nsa.bench.check.process import CandidateProcess
from nsa.bench.method.accuracy import same_bits
from nsa.bench.method.inputs import Call
from nsa.bench.method.kernels import KernelCandidate, Returned
from nsa.bench.method.remote import RemoteKernel
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import Captured, CudaTimer
from nsa.records.words import Row

BURSTS = 3  # the shortest counts: a host that is held up makes one longer
MOST_BURSTS = 12  # while the shortest is longer than the candidate's events say
LONG = 1.1  # times what they say
BURST_NS = 6e6  # what a burst takes by the candidate's events: a round trip of 0.1 ms, part of it, is small beside it
MOST_REPLAYS, MOST_QUERIES = 2000, 100  # of a burst on one query, and of one with a query for each replay


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
        process: that runs it.
        device: of all tensors.
        reserve: bytes of memory that both see; more is made where a call needs it.
    """

    def __init__(self, process: CandidateProcess, device: torch.device, reserve: int) -> None:
        self._process, self._device, self._taken = process, device, False
        self._arena = Arena(device, lambda number, tensor: self._ask(wire.Segment(number, tensor)), reserve)
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
        with self._placing():
            placed = [self._place(call) for call in calls]
            places = [self._arena.poisoned(_output_shape(call), call.q.dtype) for call in calls]
            said = self._ask(wire.Calls(tuple(placed), tuple(places), self._taken))
            odd = self._each(said, len(calls))
            outputs = [self._output(*each).clone() for each in zip(places, odd, strict=True)]
            for call, there in zip(calls, placed, strict=True):
                self._take_back(call, there)
        return outputs

    def launched(self, call: Call) -> list[str]:
        with self._placing():
            return [str(name) for name in self._each(self._ask(wire.Launched(self._place(call))))]

    def prepare(self, columns: Row, replays: Replays, returned: Returned) -> KernelCandidate:
        name, call = str(columns["backend"]), replays.call
        if self._state.bound is None:
            mark = self._arena.mark()
            placed = self._place(call)
            self._state.bound = mark, placed
            self._ask(wire.Bind(placed, tuple(replays.changed.tolist())))
        _, bound = self._state.bound
        self._ask(wire.Prepare(name))
        shape, dtype = _output_shape(call), call.q.dtype

        def give() -> None:
            for place, tensor in zip(bound.tensors, call[:5], strict=True):
                self._arena.write(place, tensor)

        def replay() -> torch.Tensor:
            give()
            with self._placing():
                place = self._arena.poisoned(shape, dtype)
                (odd,) = self._each(self._ask(wire.Replay(name, place)), 1)
                output = self._output(place, odd).clone()
            self._take_back(call, bound)
            return output

        def time(repetitions: int) -> list[int]:
            first = replays.count
            replays.count += repetitions
            drawn = [replays.draw(first + each) for each in range(repetitions)]
            with self._placing():
                parts = [torch.stack([getattr(each, part) for each in drawn]) for part in ("q", "token", "k", "v")]
                place = self._arena.poisoned((repetitions, *shape), dtype)
                said = self._ask(wire.Time(name, wire.Block(*map(self._arena.place, parts)), place))
                if not isinstance(said, dict):
                    raise wire.no_answer(self._process.name)
                outputs = self._output(place, said.get("odd"), repetitions)
                for each in range(repetitions):
                    returned.keep(outputs[each], first + each)  # at once: from here on they are the judge's own
            return self._times(said.get("ns"), repetitions)

        def inputs() -> Call:
            return bound.view(self._arena.segments)

        return RemoteCandidate(columns, time, replay, returned, replay, self, inputs, give)

    def bursts(self, name: str, replays: Replays, events_ns: float, timer: CudaTimer) -> list[BurstTimes]:
        """Time replays of what is prepared without a pause, by this process's clock: on one query, and on one for each.

        The process neither knows a query before the clock runs, nor times anything itself. Replays on one query are
        bound by the GPU where they take longer than a launch: such a burst shows what the graph takes. What is done
        around the graph, the other burst shows.

        Args:
            name: of what is prepared.
            replays: of the bound inputs; the queries are drawn from them.
            events_ns: the median of the timed replays, by the process's events.
            timer: of this process.
        """
        count, empty = math.ceil(BURST_NS / max(events_ns, 1.0)), timer.capture_empty(1)
        sizes = (1, min(MOST_REPLAYS, count)), (min(MOST_QUERIES, count), 1)
        return [self._burst(name, replays, events_ns, empty, *each) for each in sizes]

    def _burst(
        self, name: str, replays: Replays, events_ns: float, empty: Captured, queries: int, each: int
    ) -> BurstTimes:
        """The shortest of some bursts on so many queries, so many replays each."""
        call, count = replays.call, queries * each
        shortest_ns, output, query = math.inf, call.q, call.q
        with self._placing():
            q = self._arena.place(call.q.new_empty(queries, *call.q.shape))
            outputs = self._arena.poisoned((queries, *_output_shape(call)), call.q.dtype)
            empty_ns = min(self._empty_burst(q, outputs, each, empty) for _ in range(BURSTS))
            for burst in range(MOST_BURSTS):
                self._arena.write(q, replays.queries(queries))
                self._arena.view(outputs).fill_(torch.nan)
                took_ns, said = self._clocked(wire.Burst(name, q, outputs, each))
                (odd,) = self._each(said, 1)
                if took_ns < shortest_ns:
                    drawn = secrets.randbelow(queries)
                    output = self._output(outputs, odd, queries)[drawn].clone()
                    shortest_ns, query = took_ns, self._arena.view(q)[drawn].clone()
                if burst + 1 >= BURSTS and shortest_ns <= count * LONG * events_ns + empty_ns:
                    break
            last = self._arena.view(q)[-1].clone()
        return BurstTimes(count, queries, shortest_ns / count, events_ns, empty_ns / count, query, output, last)

    def _empty_burst(self, queries: Place, outputs: Place, each: int, empty: Captured) -> float:
        """Nanoseconds of as many replays of an empty graph here, with the copies that are made around the others."""
        q, into = self._arena.view(queries), self._arena.view(outputs)
        query, output = q[0].clone(), into[0].clone()
        self._wait()
        start = time.perf_counter_ns()
        for one, there in zip(q, into, strict=True):
            query.copy_(one)
            output.fill_(torch.nan)
            for _ in range(each):
                empty.graph.replay()
            there.copy_(output)
        self._wait()
        return float(time.perf_counter_ns() - start)

    def release(self) -> None:
        """Give up what is prepared."""
        if self._state.bound is not None:
            self._ask(wire.Release())
            self._arena.back(self._state.bound[0])
            self._state.bound = None

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """What is placed inside is given back."""
        mark = self._arena.mark()
        try:
            yield
        finally:
            self._arena.back(mark)

    def _clocked(self, request: wire.Request) -> tuple[float, JsonValue]:
        """Nanoseconds from the request to its answer, and the answer."""
        self._wait()
        start = time.perf_counter_ns()
        said = self._process.ask(request)
        return float(time.perf_counter_ns() - start), said

    def _ask(self, request: wire.Request) -> JsonValue:
        self._wait()
        return self._process.ask(request)

    def _wait(self) -> None:
        """All that this process has begun on the device is done: no event tells the other process."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _place(self, call: Call) -> wire.Placed:
        self._arena.room(bytes_of(call[:5]))
        return wire.Placed(tuple(self._arena.place(tensor) for tensor in call[:5]), call.block_size)

    def _take_back(self, call: Call, placed: wire.Placed) -> None:
        """What the kernel did to its inputs is done to the judge's."""
        for tensor, place in zip(call[:5], placed.tensors, strict=True):
            there = self._arena.view(place)
            if not same_bits(there, tensor):
                tensor.copy_(there)

    def _output(self, place: Place, odd: JsonValue, repetitions: int | None = None) -> torch.Tensor:
        """An output where it lies; of one that is none, something of its shape and dtype."""
        if odd is None:
            return self._arena.view(place)
        try:
            assert isinstance(odd, dict) and isinstance(odd["shape"], list)
            shape, dtype = [int(str(size)) for size in odd["shape"]], getattr(torch, str(odd["dtype"]))
            value = torch.full((), torch.nan if dtype.is_floating_point else 0, dtype=dtype, device=self._device)
            return value.expand(shape if repetitions is None else [repetitions, *shape])
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise wire.no_answer(self._process.name) from error

    def _times(self, said: JsonValue, repetitions: int) -> list[int]:
        values = self._each(said, repetitions)
        found = [value for value in values if isinstance(value, int)]
        if len(found) < len(values):
            raise wire.no_answer(self._process.name)
        return found

    def _each(self, said: JsonValue, count: int | None = None) -> list[JsonValue]:
        if not isinstance(said, list) or (count is not None and len(said) != count):
            raise wire.no_answer(self._process.name)
        return said


def _output_shape(call: Call) -> tuple[int, ...]:
    return (*call.q.shape[:3], call.v.shape[3])
