"""Replays without a pause by the judge's clock: what the candidate's own times are held against."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nsa.bench.apart.peer import Peer
from nsa.bench.apart.steps import Outputs, Steps
from nsa.bench.apart.wire import Burst, PrepareSteps, TakeSteps
from nsa.bench.method.timing import CudaTimer

BURSTS = 3  # the shortest counts: a host that is held up makes one longer
MOST_BURSTS = 12  # while the shortest is longer than the candidate's events say
LONG = 1.1  # times what they say
BURST_NS = 6e6  # what a burst takes by the candidate's events: a round trip of 0.1 ms, part of it, is small beside it
MOST_REPLAYS, MOST_QUERIES = 2000, 200  # of a burst on one query, and of one with a query for each call


@dataclass(frozen=True)
class Kind:
    """What a burst of one candidate is made of.

    Attributes:
        name: of what is prepared.
        query: [B, G, h, D], as large as each query is.
        outputs: shape and dtype of what a call gives.
        queries: draws so many new queries, [count, B, G, h, D].
    """

    name: str
    query: torch.Tensor
    outputs: Sequence[tuple[tuple[int, ...], torch.dtype]]
    queries: Callable[[int], torch.Tensor]


@dataclass(frozen=True)
class Clocked:
    """The shortest burst, in nanoseconds a call (see nsa.records.facts.Burst), and one of its calls.

    Attributes:
        q: the query of that call, which was drawn after it, [B, G, h, D].
        outputs: what it gave.
        last_q: the query of the last call, which the candidate has now.
    """

    replays: int
    queries: int
    burst_ns: float
    events_ns: float
    empty_ns: float
    q: torch.Tensor
    outputs: Sequence[torch.Tensor]
    last_q: torch.Tensor

    @property
    def times(self) -> dict[str, float]:
        """What a record keeps of it."""
        return {"burst_ns": self.burst_ns, "events_ns": self.events_ns, "empty_ns": self.empty_ns}


def bursts(peer: Peer, kind: Kind, events_ns: float, timer: CudaTimer) -> list[Clocked]:
    """Time what is prepared without a pause: its replays on one query, and calls with a query for each.

    The process neither knows a query before the clock runs, nor times anything itself. Replays on one query show what
    the graph takes that was timed; they are bound by the GPU where they take longer than a launch. Calls with queries
    of their own are captured as one graph, which nothing on the host holds up: they show what an output takes.

    Args:
        peer: the candidate's process.
        kind: of the bursts.
        events_ns: the median of the timed replays, by the process's events.
        timer: of this process.
    """
    count = math.ceil(BURST_NS / max(events_ns, 1.0))
    sizes = (1, min(MOST_REPLAYS, count)), (max(2, min(MOST_QUERIES, count)), 1)
    return [_burst(peer, kind, events_ns, timer, *each) for each in sizes]


def _burst(peer: Peer, kind: Kind, events_ns: float, timer: CudaTimer, queries: int, each: int) -> Clocked:
    """The shortest of some bursts on so many queries, so many replays each."""
    arena, count = peer.arena, queries * each
    shortest_ns, query, kept = math.inf, kind.query, list[torch.Tensor]()
    with peer.placing():
        new = kind.queries(queries)
        q = arena.place(new)
        outputs = tuple(arena.poisoned((queries, *shape), dtype) for shape, dtype in kind.outputs)
        if queries > 1:
            peer.ask(PrepareSteps(q, outputs))
        request = TakeSteps() if queries > 1 else Burst(kind.name, q, outputs, each)
        views = [arena.view(place) for place in outputs]
        empty_ns = _empty_ns(peer, kind, timer, new, arena.view(q), views, each)
        for burst in range(MOST_BURSTS):
            new = kind.queries(queries)
            for place in outputs:
                arena.poison(place)
            took_ns, said = peer.clocked(partial(arena.write, q, new), request)
            odd = peer.each(said, len(outputs))
            if took_ns < shortest_ns:
                drawn = secrets.randbelow(queries)
                kept = [peer.output(*one, queries)[drawn].clone() for one in zip(outputs, odd, strict=True)]
                shortest_ns, query = took_ns, new[drawn].clone()
            if burst + 1 >= BURSTS and shortest_ns <= count * LONG * events_ns + empty_ns:
                break
        last = new[-1].clone()
    return Clocked(count, queries, shortest_ns / count, events_ns, empty_ns / count, query, kept, last)


def _empty_ns(
    peer: Peer,
    kind: Kind,
    timer: CudaTimer,
    new: torch.Tensor,
    queries: torch.Tensor,
    outputs: Sequence[torch.Tensor],
    each: int,
) -> float:
    """The shortest of some bursts here, of calls of one launch that does nothing: what is done around the others."""
    q = kind.query.clone()
    gave = [q.new_empty(shape, dtype=dtype) for shape, dtype in kind.outputs]
    around = (q, gave, queries, outputs, timer)
    go = _steps(*around) if len(queries) > 1 else _replays(*around, each)
    shortest_ns = math.inf
    for _ in range(BURSTS):
        peer.wait()
        start = time.perf_counter_ns()
        queries.copy_(new)
        peer.wait()
        go()
        peer.wait()
        shortest_ns = min(shortest_ns, float(time.perf_counter_ns() - start))
    return shortest_ns


def _steps(
    q: torch.Tensor, gave: Outputs, queries: torch.Tensor, outputs: Outputs, timer: CudaTimer
) -> Callable[[], object]:
    """Those of a burst with a query for each call."""
    trivial = torch.zeros(1, device=q.device)

    def run() -> Outputs:
        trivial.add_(0)
        return gave

    return Steps(q, run, queries, outputs, timer).go


def _replays(
    q: torch.Tensor, gave: Outputs, queries: torch.Tensor, outputs: Outputs, timer: CudaTimer, each: int
) -> Callable[[], object]:
    """Those of a burst on one query."""
    empty = timer.capture_empty(1)

    def go() -> None:
        q.copy_(queries[0])
        for _ in range(each):
            empty.graph.replay()
        for there, output in zip(outputs, gave, strict=True):
            output.zero_()
            there[0].copy_(output)

    return go
