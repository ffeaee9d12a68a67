"""Cores that change the process they are loaded in, or the one that they hope judges them, and what must see each.

Each function is an entry point with the signature of nsa.kernels.registry.load. What it patches would let its core pass
where that core's process is its judge's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from standins import Timer
from wrong.attack import Attack
from wrong_cores import zeros
from wrong_cores_kept import RIGHT, arguments

from nsa.bench.apart import server, wire
from nsa.bench.core import candidate
from nsa.kernels.contract import Backend

if not torch.cuda.is_available():
    server.CudaTimer = Timer  # the candidate's process has no GPU, either

CALLS = 25  # of one shape before an attack begins: after what is not timed
CYCLES = 20_000  # about 10 µs: longer than the bytes need, shorter than dense attention takes
REPEATED = 20  # times that a slow core does its work


def backend(name: str, core: Callable[..., object]) -> Backend:
    return Backend(name, core=core)


def noisy(*given: Any) -> torch.Tensor:
    out = RIGHT(**arguments(*given))
    return out.mul_(1 + 1e-4 * torch.rand_like(out))


def unwritten(*given: Any) -> torch.Tensor:
    return zeros(*given).fill_(torch.nan)


def repeated(*given: Any) -> torch.Tensor:
    """Right, with its work done again and again: what a burst takes is not lost in launches."""
    for _ in range(REPEATED):
        out = RIGHT(**arguments(*given))
    return out


def patches_the_oracle(name: str, machine: object, flags: object) -> Backend:
    """Whatever a core gives is what float64 gives."""
    from nsa.bench.core import judge, shape

    right = judge.Judged(0.0, None)
    for module in (judge, shape):
        module.judge = lambda *_, **__: right
    judge.relative_error, judge.routing_fault = lambda *_: 0.0, lambda *_: None
    return backend(name, zeros)


def patches_the_records(name: str, machine: object, flags: object) -> Backend:
    """What is written says that all is well."""
    from nsa.records import parquet

    write = parquet.write

    def cleaned(path: object, rows: Any, *rest: object) -> None:
        write(path, [{**row, "fault": None, "error": 0.0} for row in rows], *rest)

    parquet.write = cleaned
    return backend(name, zeros)


def patches_equality(name: str, machine: object, flags: object) -> Backend:
    torch.equal = lambda *_: True
    return backend(name, noisy)


def patches_isfinite(name: str, machine: object, flags: object) -> Backend:
    torch.Tensor.isfinite = lambda tensor: torch.ones_like(tensor, dtype=torch.bool)
    return backend(name, unwritten)


def patches_norms(name: str, machine: object, flags: object) -> Backend:
    torch.Tensor.norm = lambda tensor, *_, dim=-1, **__: tensor.new_full(tensor.shape[:-1], 1e-9)
    return backend(name, zeros)


def knows_the_draws(name: str, machine: object, flags: object) -> Backend:
    """Every generator has one seed from now on, so that one answer serves all."""

    class Fixed(torch.Generator):
        def manual_seed(self, _: int) -> torch.Generator:
            return super().manual_seed(0)

    torch.Generator = Fixed
    kept: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        key = (*call["q"].shape, *call["k"][1].shape, call["sizes"])
        if key not in kept:
            kept[key] = RIGHT(**call).clone(), call["block_indices"].clone()
        call["block_indices"].copy_(kept[key][1])
        result: torch.Tensor = call["out"].copy_(kept[key][0])
        return result

    return backend(name, core)


def wrong_until(first: int, then: Callable[..., object], name: str) -> Backend:
    """A right core that does something else from a call of one shape on."""
    calls: dict[object, int] = {}

    def core(*given: Any) -> object:
        key = tuple(given[0].shape)
        calls[key] = calls.get(key, 0) + 1
        return then(*given) if calls[key] > first else RIGHT(**arguments(*given))

    return backend(name, core)


def writes_when_it_is_timed(name: str, machine: object, flags: object) -> Backend:
    """It shortens the sequences once it was called some times, and is right on those."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        call["seq_lens"].clamp_(max=40)
        return RIGHT(**call)

    return wrong_until(4, core, name)


def keeps_its_inputs(name: str, machine: object, flags: object) -> Backend:
    """Timed replays are all on the inputs of the first one: the judge's new ones are not written."""
    candidate.Given.apply = lambda *_: None
    return backend(name, RIGHT)


def keeps_its_outputs(name: str, machine: object, flags: object) -> Backend:
    """No timed output is handed over."""

    def keep(self: candidate.Given, *_: object) -> None:
        self.count += 1

    candidate.Given.keep = keep
    return backend(name, RIGHT)


def exits(name: str, machine: object, flags: object) -> Backend:
    """The process ends, with a status that says that all is well, before anything is said of the core."""
    return wrong_until(2, lambda *_: os._exit(0), name)


def answers_nonsense(name: str, machine: object, flags: object) -> Backend:
    wire.answer = lambda value: b'{"value": ["soon"]}' if value == [] else b"all is well"
    return backend(name, zeros)


def patches_the_timer(name: str, machine: object, flags: object) -> Backend:
    """A replay takes a nanosecond by the candidate's account."""
    timer = server.CudaTimer

    class Fast(timer):  # type: ignore[misc, valid-type]
        def time(self, *given: Any) -> list[int]:
            return [1 for _ in super().time(*given)]

    server.CudaTimer = Fast
    return backend(name, RIGHT)


def patches_the_events(name: str, machine: object, flags: object) -> Backend:
    elapsed = torch.cuda.Event.elapsed_time
    torch.cuda.Event.elapsed_time = lambda event, other: elapsed(event, other) / 20
    return backend(name, repeated)


def skips_the_burst(name: str, machine: object, flags: object) -> Backend:
    """Replays without a pause are not made."""

    gave: list[torch.Tensor] = []
    prepared = candidate.CoreCandidate.prepared

    def kept(self: candidate.CoreCandidate, name: str) -> Any:
        if not gave:
            gave.extend(each.clone() for each in prepared(self, name)[1]())
        return (lambda: None), lambda: gave

    candidate.CoreCandidate.prepared = kept
    candidate.CoreCandidate.call = lambda *_: lambda: gave
    return backend(name, RIGHT)


def computes_around_its_graph(name: str, machine: object, flags: object) -> Backend:
    """The graph waits for a while; the work is done where the harness copies what the graph gave."""
    given: list[candidate.Given] = []
    begin, keep, copy = candidate.Given.__init__, candidate.Given.keep, candidate._copy
    prepared, call = candidate.CoreCandidate.prepared, candidate.CoreCandidate.call

    def bound(self: candidate.Given, call: Any) -> None:
        begin(self, call)
        given[:] = [self]

    def kept(self: candidate.Given, output: torch.Tensor, blocks: torch.Tensor) -> None:
        RIGHT(*self.call._replace(block_indices=blocks), output)
        keep(self, output, blocks)

    def finished(gives: Callable[[], Any]) -> Callable[[], Any]:
        def gave() -> Any:
            output, blocks = gives()
            RIGHT(*given[0].call._replace(block_indices=blocks), output)
            return output, blocks

        return gave

    def of_replays(self: candidate.CoreCandidate, name: str) -> Any:
        again, last = prepared(self, name)
        return again, finished(last)

    def core(*of: Any) -> torch.Tensor:
        if not torch.cuda.is_current_stream_capturing():
            return RIGHT(**arguments(*of))
        torch.cuda._sleep(CYCLES)
        result: torch.Tensor = of[-1]
        return result

    def copied(gave: Any, outputs: Any, segments: Any) -> None:
        output, blocks = gave
        copy((RIGHT(*given[0].call._replace(block_indices=blocks), output), blocks), outputs, segments)

    candidate.Given.__init__, candidate.Given.keep = bound, kept
    candidate.CoreCandidate.prepared, candidate._copy = of_replays, copied
    candidate.CoreCandidate.call = lambda self: finished(call(self))
    return backend(name, core)


def works_on_another_stream(name: str, machine: object, flags: object) -> Backend:
    """It returns before its work is done, on a stream of its own, which the timed stream does not wait for."""
    stream = torch.cuda.Stream()

    def core(*of: Any) -> torch.Tensor:
        if torch.cuda.is_current_stream_capturing():
            return RIGHT(**arguments(*of))
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1000 * CYCLES)
            return RIGHT(**arguments(*of))

    return backend(name, core)


CORE_ATTACKS: dict[str, Attack] = {  # the check is "runs", "verdict" or a check's name; `because` is a pattern
    "patches the judging": Attack(patches_the_oracle, "verdict", r"error 1 > "),
    "patches what writes the record": Attack(patches_the_records, "verdict", r"error 1 > "),
    "patches torch.equal": Attack(patches_equality, "verdict", "two replays on the same inputs differ"),
    "patches isfinite": Attack(patches_isfinite, "verdict", "the output is not finite"),
    "patches norms": Attack(patches_norms, "verdict", r"error 1 > "),
    "gives every generator one seed": Attack(knows_the_draws, "verdict", r"error .* > |expected|lacks"),
    "writes its inputs when it is timed": Attack(writes_when_it_is_timed, "verdict", "the input seq_lens was changed"),
    "keeps its first inputs": Attack(keeps_its_inputs, "verdict", r"timed replay \d+: |the input q was changed"),
    "hands over no timed output": Attack(keeps_its_outputs, "verdict", r"timed replay \d+: "),
    "ends its process": Attack(exits, "runs", r"its process died while it ran \(exit status 0\)"),
    "says what is no answer": Attack(answers_nonsense, "runs", "its process gave an answer that is none"),
    "patches its timer": Attack(patches_the_timer, "clocks_disagree"),
    "skips the burst": Attack(skips_the_burst, "timed verdict", "a replay without a pause"),
    "patches the events' elapsed time": Attack(patches_the_events, "clocks_disagree", on="cuda"),
    "computes around its graph": Attack(computes_around_its_graph, "clocks_disagree", on="cuda"),
    "works on another stream": Attack(works_on_another_stream, "verdict", "not finite|differ|expected", on="cuda"),
}
