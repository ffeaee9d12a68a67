"""The candidate's process: it loads one backend and does with it what the judge asks (docs/method.md).

It has no results, no seed, and no inputs but those that the judge gives it, block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch
from pydantic import JsonValue

from nsa.backends import resolve
from nsa.bench.check import wire
from nsa.bench.check.arena import Place
from nsa.bench.method import switches
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.bench.method.kernels import KernelCandidate, Returned, prepare
from nsa.bench.method.launches import launched
from nsa.bench.method.replays import Changes, Drawn
from nsa.bench.method.timing import CudaTimer
from nsa.kernels import registry
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.failures import BackendBroken

POISONED = 8  # tensors as large as an output that are full of NaN and freed just before a call


def serve(connection: Connection[bytes, wire.Request]) -> None:
    """Answer, until the judge is gone."""
    candidate = Candidate()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 (torch opens no handle of the judge's)
            connection.send_bytes(wire.unreadable(error))
            continue
        try:
            said = wire.answer(candidate.asked(request))
        except BaseException as error:  # noqa: BLE001 (the judge raises it)
            said = wire.refusal(candidate.name, error)
        connection.send_bytes(said)


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
        self.odd = _copied(output, self.into[self._given.place]) or self.odd
        self._given.place += 1


class Candidate:
    """A backend, and what was made of it."""

    def __init__(self) -> None:
        self.name = "candidate"
        self._segments: dict[int, torch.Tensor] = {}
        self._device = torch.device("cpu")
        self._backend: Backend | None = None
        self._timer: CudaTimer | None = None
        self._given: Given | None = None
        self._prepared: dict[str, tuple[KernelCandidate, Outputs]] = {}
        self._before = switches.read()

    def asked(self, request: wire.Request) -> JsonValue:
        """Do what a request says; all of it is done when this returns."""
        value = self._do(request)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return value

    def _do(self, request: wire.Request) -> JsonValue:
        match request:
            case wire.Segment():
                self._segment(request)
            case wire.Load():
                self._load(request)
            case wire.Calls():
                return self._calls(request)
            case wire.Launched():
                call = request.call.view(self._segments)
                return [*launched(lambda: self._kernel(taken=True)(*call), self._device)]
            case wire.Bind():
                changed = torch.tensor(request.changed, dtype=torch.long, device=self._device)
                self._given = Given(request.call.view(self._segments), changed)
            case wire.Prepare():
                self._prepare(request.name)
            case wire.Replay():
                return self._replay(request)
            case wire.Time():
                return self._time(request)
            case wire.Burst():
                return self._burst(request)
            case wire.Release():
                self._prepared, self._given = {}, None
            case wire.About():
                return self._about()
        return None

    def _about(self) -> JsonValue:
        assert self._backend is not None
        switched = switches.changed(self._before, switches.read())
        return {"notes": [*registry.notes(self._backend)], "switched": [*switched]}

    def _segment(self, request: wire.Segment) -> None:
        if request.tensor is None:
            del self._segments[request.number]
        else:
            self._segments[request.number] = request.tensor

    def _load(self, request: wire.Load) -> None:
        self.name, self._device = request.name, request.device
        if not request.timed:
            torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
        self._before = switches.read()
        loaded = resolve(request.entry)(request.name, request.machine, request.flags)
        if not isinstance(loaded, Backend):
            raise BackendBroken(f"{request.name}: {request.entry} gave no backend")
        self._backend = loaded
        if request.timed:
            self._timer = CudaTimer(request.device)

    def _calls(self, request: wire.Calls) -> JsonValue:
        kernel, outputs = self._kernel(request.taken), list[torch.Tensor]()
        for placed, output in zip(request.calls, request.outputs, strict=True):
            call = placed.view(self._segments)
            self._poison(output)
            outputs.append(kernel(*call))
        places = zip(outputs, request.outputs, strict=True)
        return [_copied(output, place.view(self._segments)) for output, place in places]

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
        return [_copied(prepared.replay(), request.output.view(self._segments))]

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

    def _burst(self, request: wire.Burst) -> JsonValue:
        assert self._given is not None
        prepared, _ = self._prepared[request.name]
        queries, outputs = (place.view(self._segments) for place in (request.q, request.outputs))
        odd = None
        for query, output in zip(queries, outputs, strict=True):
            self._given.call.q.copy_(query)
            for _ in range(request.each - 1):
                prepared.run()
            odd = _copied(prepared.replay(), output) or odd
        return [odd]

    def _kernel(self, taken: bool) -> SelectAttention:
        assert self._backend is not None
        return guarded(self.name, self._backend.selection_kernel, takes=taken)

    def _poison(self, output: Place) -> None:
        """The allocator hands a freed block of the same size to the next request, which is the kernel's output."""
        full = [torch.full(output.shape, torch.nan, dtype=output.dtype, device=self._device) for _ in range(POISONED)]
        del full


def _copied(output: torch.Tensor, into: torch.Tensor) -> JsonValue:
    """None where the output was copied, else its odd shape and dtype."""
    if output.shape != into.shape or output.dtype != into.dtype:
        return {"shape": [*output.shape], "dtype": str(output.dtype).removeprefix("torch.")}
    into.copy_(output)
    return None
