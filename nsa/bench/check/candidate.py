"""What the candidate's process of a kernel check does with a selection kernel (docs/kernel_check.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import JsonValue

from nsa.bench.apart.arena import Place
from nsa.bench.apart.server import Server
from nsa.bench.apart.steps import copied
from nsa.bench.apart.wire import Prepare, Release, Request
from nsa.bench.check import wire
from nsa.bench.method.candidate import KernelCandidate, Returned
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.bench.method.kernels import prepare
from nsa.bench.method.launches import launched
from nsa.bench.method.replays import Changes, Drawn
from nsa.kernels.contract import SelectAttention

POISONED = 8  # tensors as large as an output that are full of NaN and freed just before a call


class Given(Changes):
    """The bound inputs; the changes of a block's replays are those that the judge gave."""

    def __init__(self, call: Call, changed: torch.Tensor) -> None:
        super().__init__(call, changed)
        self.drawn: Sequence[Drawn] = ()
        self.place = 0  # of the next one

    def begin(self, drawn: Sequence[Drawn]) -> None:
        """Take the inputs of a block."""
        self.drawn, self.place = drawn, 0

    def refresh(self) -> None:
        """Change the inputs for the next replay; again for one that is repeated."""
        self.apply(self.drawn[self.place])


class Outputs(Returned):
    """What timed replays return, copied into the judge's memory in the stream."""

    def __init__(self, given: Given) -> None:
        super().__init__(every=True)
        self._given = given
        self.into: torch.Tensor | None = None
        self.odd: JsonValue = None

    def keep(self, output: torch.Tensor, replay: int) -> None:
        """Copy an output that has the right shape and dtype."""
        assert self.into is not None
        self.odd = copied(output, self.into[self._given.place]) or self.odd
        self._given.place += 1


class Candidate(Server):
    """A backend's selection kernel, and what was made of it."""

    def __init__(self) -> None:
        super().__init__()
        self._given: Given | None = None
        self._prepared: dict[str, tuple[KernelCandidate, Outputs]] = {}

    @property
    def query(self) -> torch.Tensor:
        assert self._given is not None
        return self._given.call.q

    def call(self) -> Callable[[], Sequence[torch.Tensor]]:
        assert self._given is not None
        kernel, call = self._kernel(taken=True), self._given.call
        return lambda: (kernel(*call),)

    def prepared(self, name: str) -> tuple[Callable[[], object], Callable[[], Sequence[torch.Tensor]]]:
        candidate, _ = self._prepared[name]
        return candidate.run, lambda: (candidate.replay(),)

    def further(self, request: Request) -> JsonValue:
        """See Server."""
        match request:
            case wire.Calls():
                return self._calls(request)
            case wire.Launched():
                call = request.call.view(self._segments)
                return [*launched(lambda: self._kernel(taken=True)(*call), self._device)]
            case wire.Bind():
                changed = torch.tensor(request.changed, dtype=torch.long, device=self._device)
                self._given = Given(request.call.view(self._segments), changed)
            case Prepare():
                self._prepare(request.name)
            case wire.Replay():
                return self._replay(request)
            case wire.Time():
                return self._time(request)
            case Release():
                self._prepared, self._given = {}, None
            case _:
                raise TypeError(f"a kernel check asks no {type(request).__name__}")
        return None

    def _calls(self, request: wire.Calls) -> JsonValue:
        kernel, outputs = self._kernel(request.taken), list[torch.Tensor]()
        for placed, output in zip(request.calls, request.outputs, strict=True):
            call = placed.view(self._segments)
            self._poison(output)
            outputs.append(kernel(*call))
        places = zip(outputs, request.outputs, strict=True)
        return [copied(output, place.view(self._segments)) for output, place in places]

    def _prepare(self, name: str) -> None:
        assert self._given is not None
        outputs = Outputs(self._given)
        made = prepare(self.name, self._kernel(taken=True), {}, self._given, outputs, self._timer)
        self._prepared[name] = made, outputs

    def _replay(self, request: wire.Replay) -> JsonValue:
        assert self._given is not None
        self._given.forget()
        self._poison(request.output)
        prepared, _ = self._prepared[request.name]
        return [copied(prepared.replay(), request.output.view(self._segments))]

    def _time(self, request: wire.Time) -> JsonValue:
        assert self._given is not None
        prepared, outputs = self._prepared[request.name]
        block = request.block
        q, token, k, v = (place.view(self._segments) for place in (block.q, block.token, block.k, block.v))
        token = token.clone()  # what changed last is given back in the next block, which lies in the same memory
        drawn = [Drawn(*each) for each in zip(q, token, token, k, v, strict=True)]  # a token's slot is not needed
        self._given.begin(drawn)
        outputs.into, outputs.odd = request.outputs.view(self._segments), None
        if self._timer is not None:
            self._timer.settle()
        return {"ns": [*prepared.time(len(drawn))], "odd": outputs.odd}

    def _kernel(self, taken: bool) -> SelectAttention:
        return guarded(self.name, self.backend.selection_kernel, takes=taken)

    def _poison(self, output: Place) -> None:
        """The allocator hands a freed block of the same size to the next request, which is the kernel's output."""
        full = [torch.full(output.shape, torch.nan, dtype=output.dtype, device=self._device) for _ in range(POISONED)]
        del full
