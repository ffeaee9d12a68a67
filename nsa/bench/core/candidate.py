"""What the candidate's process of a core check does with a decode core (docs/core_check.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import JsonValue

from nsa.bench.apart.arena import Segments
from nsa.bench.apart.server import Server
from nsa.bench.apart.wire import Prepare, Release, Request
from nsa.bench.core import wire
from nsa.bench.core.inputs import CoreCall
from nsa.bench.core.replays import Changes
from nsa.bench.core.subject import Bound, Gave, Prepared, bound, prepare


class Given(Changes):
    """The bound inputs; what is new in a block's replays is what the judge gave, and outputs go to its memory."""

    def __init__(self, call: CoreCall) -> None:
        super().__init__(call)
        self._new: Sequence[torch.Tensor] = ()
        self._outputs: Sequence[torch.Tensor] = ()

    def begin(
        self, places: Sequence[torch.Tensor], new: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> None:
        """Take the inputs of a block, where in the caches its tokens are new, and where its outputs go."""
        self.places, self._new, self._outputs, self.count = places, new, outputs, 0

    def of(self, replay: int) -> Sequence[torch.Tensor]:
        return [each[replay] for each in self._new]

    def keep(self, output: torch.Tensor, blocks: torch.Tensor) -> None:
        """Copy what a timed replay gave, in the stream."""
        for into, gave in zip(self._outputs, (output, blocks), strict=True):
            into[self.count].copy_(gave)
        self.count += 1


class CoreCandidate(Server):
    """A backend's decode core, and what was made of it."""

    def __init__(self) -> None:
        super().__init__()
        self._given: Given | None = None
        self._prepared: dict[str, Prepared] = {}
        self._captured: list[Bound] = []  # whose margins are looked at after replays

    @property
    def query(self) -> torch.Tensor:
        assert self._given is not None
        return self._given.call.q

    def call(self) -> Callable[[], Gave]:
        assert self._given is not None
        run, blocks, _ = self._kept(self._given)
        return lambda: (run(), blocks)

    def prepared(self, name: str) -> tuple[Callable[[], object], Callable[[], Gave]]:
        made = self._prepared[name]
        return made.run, made.replay

    def further(self, request: Request) -> JsonValue:
        """See Server."""
        if isinstance(request, wire.Bind):
            call = request.call
            self._given = Given(call if isinstance(call, CoreCall) else call.view(self._segments))
            return None
        if isinstance(request, Release):
            self._look()  # after the bursts, too, which the judge clocks
            self._prepared, self._given, self._captured = {}, None, []
            return None
        assert self._given is not None
        said = self._with(self._given, request)
        self._look()
        return said

    def _kept(self, given: Given) -> Bound:
        """A call that is about to be captured."""
        self._captured.append(bound(self.name, self.backend.decode_core, given.call))
        return self._captured[-1]

    def _look(self) -> None:
        """What replays may write around: no Python of theirs looks."""
        for each in self._captured:
            each.look()

    def _with(self, given: Given, request: Request) -> JsonValue:
        """Something with the bound inputs."""
        match request:
            case wire.Once():
                run, blocks, _ = bound(self.name, self.backend.decode_core, given.call)
                _copy((run(), blocks), request.outputs, self._segments)
            case Prepare():
                run, blocks, _ = self._kept(given)
                self._prepared[request.name] = prepare(self.name, run, blocks, given.refresh, given.keep, self._timer)
            case wire.Replay():
                _copy(self._prepared[request.name].replay(), request.outputs, self._segments)
            case wire.Time():
                return self._time(given, request)
            case _:
                raise TypeError(f"a core check asks no {type(request).__name__}")
        return None

    def _time(self, given: Given, request: wire.Time) -> JsonValue:
        asked = (request.places, request.new, request.outputs)
        places, new, outputs = ([place.view(self._segments) for place in each] for each in asked)
        given.begin(places, new, outputs)
        if self._timer is not None:
            self._timer.settle()
        return [*self._prepared[request.name].time(len(new[0]))]


def _copy(gave: Sequence[torch.Tensor], outputs: wire.Outputs, segments: Segments) -> None:
    for place, each in zip(outputs, gave, strict=True):
        place.view(segments).copy_(each)
