"""Replays without a pause by the judge's clock: what the candidate's own times are held against."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nsa.bench.apart.arena import Place
from nsa.bench.apart.peer import Peer
from nsa.bench.apart.wire import Request

BURSTS = 3  # the shortest counts: a host that is held up makes one longer
MOST_BURSTS = 12  # while the shortest is longer than the candidate's events say
LONG = 1.1  # times what they say
BURST_NS = 6e6  # what a burst takes by the candidate's events: a round trip of 0.1 ms, part of it, is small beside it
MOST_REPLAYS, MOST_QUERIES = 2000, 100  # of a burst on one query, and of one with a query for each replay


@dataclass(frozen=True)
class Kind:
    """What a burst of one candidate is made of.

    Attributes:
        query: [B, G, h, D], as large as each query is.
        outputs: shape and dtype of what a replay gives.
        queries: draws so many new queries, [replays, B, G, h, D].
        request: asks for a burst on queries, into outputs, so many replays on each.
        empty: the same of an empty graph, here, waited for: what its launches and the copies around it take.
    """

    query: torch.Tensor
    outputs: Sequence[tuple[tuple[int, ...], torch.dtype]]
    queries: Callable[[int], torch.Tensor]
    request: Callable[[Place, Sequence[Place], int], Request]
    empty: Callable[[torch.Tensor, Sequence[torch.Tensor], int], float]


@dataclass(frozen=True)
class Clocked:
    """The shortest burst, in nanoseconds a replay (see nsa.records.facts.Burst), and one of its replays.

    Attributes:
        q: the query of that replay, which was drawn after it, [B, G, h, D].
        outputs: what it gave.
        last_q: the query of the last replay, which the candidate has now.
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


def bursts(peer: Peer, kind: Kind, events_ns: float) -> list[Clocked]:
    """Time replays of what is prepared without a pause: on one query, and on one for each.

    The process neither knows a query before the clock runs, nor times anything itself. Replays on one query are bound
    by the GPU where they take longer than a launch: such a burst shows what the graph takes. What is done around the
    graph, the other burst shows.

    Args:
        peer: the candidate's process.
        kind: of the bursts.
        events_ns: the median of the timed replays, by the process's events.
    """
    count = math.ceil(BURST_NS / max(events_ns, 1.0))
    sizes = (1, min(MOST_REPLAYS, count)), (min(MOST_QUERIES, count), 1)
    return [_burst(peer, kind, events_ns, *each) for each in sizes]


def _burst(peer: Peer, kind: Kind, events_ns: float, queries: int, each: int) -> Clocked:
    """The shortest of some bursts on so many queries, so many replays each."""
    arena, count = peer.arena, queries * each
    shortest_ns, query, kept = math.inf, kind.query, list[torch.Tensor]()
    with peer.placing():
        q = arena.place(kind.query.new_empty(queries, *kind.query.shape))
        outputs = [arena.poisoned((queries, *shape), dtype) for shape, dtype in kind.outputs]
        views = [arena.view(place) for place in outputs]
        empty_ns = min(kind.empty(arena.view(q), views, each) for _ in range(BURSTS))
        for burst in range(MOST_BURSTS):
            arena.write(q, kind.queries(queries))
            for place in outputs:
                arena.poison(place)
            took_ns, said = peer.clocked(kind.request(q, outputs, each))
            odd = peer.each(said, len(outputs))
            if took_ns < shortest_ns:
                drawn = secrets.randbelow(queries)
                kept = [peer.output(*one, queries)[drawn].clone() for one in zip(outputs, odd, strict=True)]
                shortest_ns, query = took_ns, arena.view(q)[drawn].clone()
            if burst + 1 >= BURSTS and shortest_ns <= count * LONG * events_ns + empty_ns:
                break
        last = arena.view(q)[-1].clone()
    return Clocked(count, queries, shortest_ns / count, events_ns, empty_ns / count, query, kept, last)
