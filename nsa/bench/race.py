"""The timed part of the kernel check: kernels interleaved on the same inputs, and what their timed calls returned."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from nsa.bench.accuracy import fault
from nsa.bench.cases import Call, CheckShape, full_case
from nsa.bench.timing import CudaTimer, wall
from nsa.kernels.contract import SelectAttention

BLOCKS = 5  # randomised blocks that the repetitions are spread over
TIMED_SEED = 1000  # the inputs that are timed, one draw a process, are none of those checked before

Outputs = dict[str, tuple[torch.Tensor, str | None]]


@dataclass
class Entrant:
    """One kernel in the race: how to time it, and what its last timed call returned."""

    time: Callable[[int], list[int]]
    output: Callable[[], torch.Tensor]


@dataclass
class Queries:
    """Changes q in place before every timed call, so that no call can return an earlier one's work."""

    call: Call
    drawn: list[torch.Tensor]
    calls: int = field(default=0)

    def refresh(self) -> None:
        """The next of a few queries, in turn."""
        self.calls += 1
        self.call.q.copy_(self.drawn[self.calls % len(self.drawn)])


def race(
    kernels: Mapping[str, SelectAttention], shape: CheckShape, iters: int, seed: int, process: int, device: torch.device
) -> tuple[list[dict[str, Any]], Call, Outputs]:
    """Time every kernel in randomised blocks: rows, and what the last timed calls returned, with their inputs.

    On CUDA each kernel is a captured graph, timed cold. On a CPU the same calls are made but no time is recorded: it
    would decide nothing. The last timed call of every kernel has a query of its own that was never seen before.
    """
    seed = TIMED_SEED * (seed + 1) + process
    call, order = full_case(shape, seed, device), random.Random(f"{seed}/{shape}")
    queries = Queries(call, [torch.randn_like(call.q) for _ in range(3)])
    names = order.sample(list(kernels), len(kernels))
    enter = _on_cuda if device.type == "cuda" else _on_cpu
    entrants = enter({name: kernels[name] for name in names}, call, queries, device)

    rows: list[dict[str, Any]] = []
    for block in range(min(BLOCKS, iters)):
        repetitions = iters // BLOCKS + (block < iters % BLOCKS)
        for place, name in enumerate(order.sample(names, len(names))):
            values = entrants[name].time(repetitions)
            rows += [{**asdict(shape), "backend": name, "order": place, "value_ns": value} for value in values]
    queries.drawn = [torch.randn_like(call.q)]
    outputs: Outputs = {}
    for place, (name, entrant) in enumerate(entrants.items()):
        (value,) = entrant.time(1)
        rows.append({**asdict(shape), "backend": name, "order": place, "value_ns": value})
        output = entrant.output()
        outputs[name] = output, fault(output, call)
    return (rows if device.type == "cuda" else []), call, outputs


def _on_cuda(
    kernels: Mapping[str, SelectAttention], call: Call, queries: Queries, device: torch.device
) -> dict[str, Entrant]:
    """Captured graphs, in random order: where a graph's memory lies moves its time."""
    timer, entrants = CudaTimer(device), {}
    for name, kernel in kernels.items():
        captured = timer.capture(lambda: None, partial(kernel, *call), warmup=3)
        captured.output.fill_(torch.nan)
        time = partial(timer.time, queries.refresh, captured.graph.replay, True)
        entrants[name] = Entrant(time, captured.output.clone)
    return entrants


def _on_cpu(
    kernels: Mapping[str, SelectAttention], call: Call, queries: Queries, device: torch.device
) -> dict[str, Entrant]:
    entrants = {}
    for name, kernel in kernels.items():
        last: list[torch.Tensor] = []

        def run(kernel: SelectAttention = kernel, last: list[torch.Tensor] = last) -> None:
            last[:] = [kernel(*call).clone()]  # at once: what is not there yet when the call returns is not its output

        time = partial(_wall, run, device, queries.refresh)
        entrants[name] = Entrant(time, partial(last.__getitem__, 0))
    return entrants


def _wall(run: Callable[[], object], device: torch.device, restore: Callable[[], None], repetitions: int) -> list[int]:
    return wall(run, device, repetitions, restore)
