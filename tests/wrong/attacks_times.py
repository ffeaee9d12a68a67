"""Candidates that change what times them in their own process: only another process's clock, or packed SDPA, shows it.

Their entry points are as those of wrong.attacks; all need a GPU, whose times decide.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import torch
from wrong.attack import Attack
from wrong.kernels import right

from nsa.bench.apart import server, steps
from nsa.bench.check import candidate
from nsa.bench.method import timing
from nsa.bench.method.inputs import Call
from nsa.config import Flags
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.machine.host import Machine

CYCLES = 20_000  # about 10 us: longer than the bytes need, shorter than packed SDPA takes
REPEATED = 20  # times that a slow kernel does its work


def slow(*arguments: object) -> torch.Tensor:
    """Right, and no faster than packed SDPA."""
    return gather(*arguments) * 1


def slows_the_baseline(name: str, machine: Machine, flags: Flags) -> Backend:
    """Deterministic algorithms make packed SDPA slower, not a kernel of one's own."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    return Backend(name, slow)


def stops_the_events(name: str, machine: Machine, flags: Flags) -> Backend:
    elapsed = torch.cuda.Event.elapsed_time
    torch.cuda.Event.elapsed_time = lambda event, other: elapsed(event, other) / 10
    return Backend(name, slow)


def stops_the_clock(name: str, machine: Machine, flags: Flags) -> Backend:
    now = time.perf_counter_ns()
    time.perf_counter_ns = lambda: now
    time.monotonic_ns = lambda: now
    return Backend(name, slow)


def divides_cold_times(name: str, machine: Machine, flags: Flags) -> Backend:
    """Only the times that decide are less than what was measured: those of a warm cache are true."""
    timed = timing.CudaTimer.time

    def time(timer: timing.CudaTimer, restore: Any, replay: Any, cold: bool, *rest: Any, **further: Any) -> list[int]:
        return [value // (8 if cold else 1) for value in timed(timer, restore, replay, cold, *rest, **further)]

    timing.CudaTimer.time = time
    return Backend(name, repeated)


def repeated(*arguments: object) -> torch.Tensor:
    """Right, with its work done again and again: what a burst takes is not lost in launches."""
    for _ in range(REPEATED):
        o = slow(*arguments)
    return o


def computes_around_its_graph(name: str, machine: Machine, flags: Flags) -> Backend:
    """The graph waits for a while; the work is done where the harness copies what the graph returned."""
    given: list[candidate.Given] = []
    made, copied = candidate.Given.__init__, candidate.copied

    def begin(self: candidate.Given, *arguments: Any) -> None:
        made(self, *arguments)
        given[:] = [self]

    def copy(output: torch.Tensor, into: torch.Tensor) -> Any:
        return copied(right(*given[0].call), into) if given and given[0].call.q.shape[:3] == into.shape[:3] else None

    def attend(*arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        if not torch.cuda.is_current_stream_capturing():
            return right(*arguments)
        torch.cuda._sleep(CYCLES)
        return torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype, device=call.q.device)

    def prepare(self: candidate.Candidate, request: Any) -> None:
        prepared(self, request)
        for module in (candidate, server, steps):
            module.copied = copy

    def release(self: candidate.Candidate, request: Any) -> Any:
        if type(request).__name__ == "Release":
            for module in (candidate, server, steps):
                module.copied = copied
        return asked(self, request)

    prepared, asked = candidate.Candidate._prepare, candidate.Candidate.asked
    candidate.Given.__init__, candidate.Candidate._prepare, candidate.Candidate.asked = begin, prepare, release
    return Backend(name, attend)


def works_beside_packed_sdpa(name: str, machine: Machine, flags: Flags) -> Backend:
    """A thread keeps the GPU busy while nothing is asked of this process: packed SDPA is timed then.

    The GPU gives processes whole slices of time, so that a replay of packed SDPA takes as long as without it.
    """
    idle = threading.Event()
    asked = candidate.Candidate.asked

    def work() -> None:
        stream, a = torch.cuda.Stream(), torch.ones(4096, 4096, device="cuda", dtype=torch.bfloat16)
        with torch.cuda.stream(stream):
            while True:
                idle.wait()
                a @ a
                stream.synchronize()

    def ask(self: candidate.Candidate, request: Any) -> Any:
        idle.clear()
        try:
            return asked(self, request)
        finally:
            idle.set()

    candidate.Candidate.asked = ask
    threading.Thread(target=work, daemon=True).start()
    return Backend(name, slow)


TIME_ATTACKS: dict[str, Attack] = {
    "slows packed SDPA by torch's switches": Attack(slows_the_baseline, "speed", "speedup", on="cuda"),
    "patches the events' elapsed time": Attack(stops_the_events, "clocks_disagree", on="cuda"),
    "stops the clocks of Python": Attack(stops_the_clock, "speed", "speedup", on="cuda"),
    "divides its times where the cache is cold": Attack(divides_cold_times, "clocks_disagree", on="cuda"),
    "computes around its graph": Attack(computes_around_its_graph, "clocks_disagree", on="cuda"),
    "keeps the GPU busy beside packed SDPA": Attack(works_beside_packed_sdpa, "speed", "speedup", on="cuda"),
}
