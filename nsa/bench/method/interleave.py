"""Kernels timed in turns on the same inputs, and what their timed calls returned: the kernel check, the roofline."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from nsa.bench.method.accuracy import fault, mean_absolute_error, oracle, worst_row_error
from nsa.bench.method.inputs import Call, CheckShape, full_case
from nsa.bench.method.timing import CudaTimer, wall
from nsa.kernels.contract import SelectAttention

BLOCKS = 5  # randomised blocks that the kernel check's repetitions are spread over
WARMUP = 3  # calls before a capture
TIMED_SEED = 1000  # the inputs that are timed, one draw a process, are none of those checked before

Outputs = dict[str, tuple[torch.Tensor, str | None]]


@dataclass
class Candidate:
    """One kernel in the race: how to time it, and what its last timed call returned."""

    time: Callable[[int], list[int]]
    output: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Group:
    """Kernels that take turns on the same inputs, and the columns that name these in every row."""

    columns: Mapping[str, Any]
    candidates: Mapping[str, Candidate]


@dataclass
class QueryRotation:
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
    timer = CudaTimer(device) if device.type == "cuda" else None
    group, queries = enter(kernels, asdict(shape), call, order, timer)
    rows = interleave([group], iters, BLOCKS, order)
    last, outputs = last_calls(group, queries)
    return ([*rows, *last] if timer else []), call, outputs


def enter(
    kernels: Mapping[str, SelectAttention],
    columns: Mapping[str, Any],
    call: Call,
    order: random.Random,
    timer: CudaTimer | None,
) -> tuple[Group, QueryRotation]:
    """Make kernels ready to be timed on one call: captured graphs with a timer, the calls themselves without one.

    They are captured in random order: where a graph's memory lies moves its time.
    """
    queries = QueryRotation(call, [torch.randn_like(call.q) for _ in range(3)])
    shuffled = {name: kernels[name] for name in order.sample(list(kernels), len(kernels))}
    return Group(columns, _on_cuda(shuffled, queries, timer) if timer else _on_cpu(shuffled, queries)), queries


def interleave(groups: Sequence[Group], iters: int, blocks: int, order: random.Random) -> list[dict[str, Any]]:
    """Time every candidate of every group so often, in randomised blocks: a row for each repetition, as they were made.

    In each block the groups follow each other in random order, and in each group its candidates do.
    """
    rows: list[dict[str, Any]] = []
    for block in range(min(blocks, iters)):
        repetitions = iters // blocks + (block < iters % blocks)
        for group in order.sample(groups, len(groups)):
            for place, name in enumerate(order.sample(list(group.candidates), len(group.candidates))):
                values = group.candidates[name].time(repetitions)
                rows += [{**group.columns, "backend": name, "order": place, "value_ns": value} for value in values]
    return rows


def last_calls(group: Group, queries: QueryRotation) -> tuple[list[dict[str, Any]], Outputs]:
    """Time each candidate once more, with a query that none has seen: the rows, and what these calls returned."""
    queries.drawn = [torch.randn_like(queries.call.q)]
    rows: list[dict[str, Any]] = []
    outputs: Outputs = {}
    for place, (name, candidate) in enumerate(group.candidates.items()):
        (value,) = candidate.time(1)
        rows.append({**group.columns, "backend": name, "order": place, "value_ns": value})
        output = candidate.output()
        outputs[name] = output, fault(output, queries.call)
    return rows, outputs


def judge(outputs: Outputs, packed: str, columns: Mapping[str, Any], seed: int, call: Call) -> list[dict[str, Any]]:
    """Compare each output with packed SDPA's in the same dtype and with the float64 oracle: one row each.

    Args:
        outputs: what kernels returned, and what is wrong with it whatever its accuracy.
        packed: the name of packed SDPA among them.
        columns: what names the inputs in every row.
        seed: of the inputs.
        call: the inputs.
    """
    exact = oracle(call)
    reference = outputs[packed][0]
    packed_error = worst_row_error(reference, exact)
    rows = []
    for name, (output, found) in outputs.items():
        row = {**columns, "backend": name, "seed": seed, "fault": found, "sdpa_oracle_error": packed_error}
        if output.shape == exact.shape:
            row |= {"mae": mean_absolute_error(output, reference), "oracle_error": worst_row_error(output, exact)}
        rows.append(row)
    return rows


def _on_cuda(kernels: Mapping[str, SelectAttention], queries: QueryRotation, timer: CudaTimer) -> dict[str, Candidate]:
    candidates = {}
    for name, kernel in kernels.items():
        captured = timer.capture(lambda: None, partial(kernel, *queries.call), WARMUP)
        captured.output.fill_(torch.nan)
        time = partial(timer.time, queries.refresh, captured.graph.replay, True)
        candidates[name] = Candidate(time, captured.output.clone)
    return candidates


def _on_cpu(kernels: Mapping[str, SelectAttention], queries: QueryRotation) -> dict[str, Candidate]:
    call, candidates = queries.call, {}
    for name, kernel in kernels.items():
        last: list[torch.Tensor] = []

        def run(kernel: SelectAttention = kernel, last: list[torch.Tensor] = last) -> None:
            last[:] = [kernel(*call).clone()]  # at once: what is not there yet when the call returns is not its output

        time = partial(_wall, run, call.q.device, queries.refresh)
        candidates[name] = Candidate(time, partial(last.__getitem__, 0))
    return candidates


def _wall(run: Callable[[], object], device: torch.device, restore: Callable[[], None], repetitions: int) -> list[int]:
    return wall(run, device, repetitions, restore)
