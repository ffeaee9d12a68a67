"""Selection kernels made ready to be timed on one call, and what their timed calls returned, judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from nsa.bench.method.accuracy import fault, mean_absolute_error, worst_row_error
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.bench.method.interleave import Candidate
from nsa.bench.method.timing import CudaTimer, wall
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.failures import kernel_at_work
from nsa.records.words import Row

WARMUP = 3  # calls before a capture

Kernels = Mapping[str, SelectAttention]
Outputs = dict[str, tuple[torch.Tensor, str | None]]  # what kernels returned, and what is wrong with it at first sight


@dataclass(frozen=True)
class KernelCandidate(Candidate):
    """A kernel on one call; `output` is what its last timed call returned."""

    output: Callable[[], torch.Tensor]


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


@dataclass(frozen=True)
class Timed:
    """Kernels that take turns on one call."""

    group: Mapping[str, KernelCandidate]
    queries: QueryRotation


def able(kernels: Kernels, call: Call) -> tuple[dict[str, SelectAttention], dict[str, str]]:
    """The kernels that take a call, guarded, and why the others refuse it."""
    takes: dict[str, SelectAttention] = {}
    refused: dict[str, str] = {}
    for name, kernel in kernels.items():
        try:
            guarded(name, kernel)(*call)
        except InputError as error:
            refused[name] = str(error)
        else:
            takes[name] = guarded(name, kernel, takes=True)
    return takes, refused


def enter(kernels: Kernels, columns: Row, call: Call, order: random.Random, timer: CudaTimer | None) -> Timed:
    """Make kernels ready to be timed on one call: captured graphs with a timer, the calls themselves without one.

    They are captured in random order: where a graph's memory lies moves its time.

    Args:
        kernels: by the name that their rows have; one may be there twice, as its own A/A control.
        columns: what names the call in every row.
        call: the inputs; its q is drawn anew for each timed call.
        order: the source of the random order.
        timer: on CUDA; None on a CPU, whose wall times decide nothing.
    """
    queries = QueryRotation(call, [torch.randn_like(call.q) for _ in range(3)])
    make = partial(_on_cuda, queries=queries, timer=timer) if timer else partial(_on_cpu, queries=queries)
    names = order.sample(list(kernels), len(kernels))
    return Timed({name: make(name, kernels[name], {**columns, "backend": name}) for name in names}, queries)


def last_calls(timed: Timed) -> tuple[list[Row], Outputs]:
    """Time each once more, with a query that none has seen: the rows, and what these calls returned."""
    queries = timed.queries
    queries.drawn = [torch.randn_like(queries.call.q)]
    rows: list[Row] = []
    outputs: Outputs = {}
    for place, (name, candidate) in enumerate(timed.group.items()):
        (value,) = candidate.time(1)
        rows.append({**candidate.columns, "order": place, "value_ns": value})
        output = candidate.output()
        outputs[name] = output, fault(output, queries.call)
    return rows, outputs


def judge(outputs: Outputs, packed: str, columns: Row, seed: int, exact: torch.Tensor) -> list[Row]:
    """Compare each output with packed SDPA's in the same dtype and with the float64 oracle: one row each.

    Args:
        outputs: what kernels returned.
        packed: the name of packed SDPA among them.
        columns: what names the inputs in every row.
        seed: of the inputs.
        exact: what the oracle says of the inputs.
    """
    reference = outputs[packed][0]
    packed_error = worst_row_error(reference, exact)
    rows: list[Row] = []
    for name, (output, found) in outputs.items():
        row = {**columns, "backend": name, "seed": seed, "fault": found, "sdpa_oracle_error": packed_error}
        if output.shape == exact.shape:
            row |= {"mae": mean_absolute_error(output, reference), "oracle_error": worst_row_error(output, exact)}
        rows.append(row)
    return rows


def _on_cuda(
    name: str, kernel: SelectAttention, columns: Row, queries: QueryRotation, timer: CudaTimer
) -> KernelCandidate:
    with kernel_at_work(name):
        captured = timer.capture(lambda: None, partial(kernel, *queries.call), WARMUP)
    captured.output.fill_(torch.nan)
    time = partial(timer.time, queries.refresh, captured.graph.replay, True)
    return KernelCandidate(columns, time, captured.output.clone)


def _on_cpu(name: str, kernel: SelectAttention, columns: Row, queries: QueryRotation) -> KernelCandidate:
    last: list[torch.Tensor] = []
    call = guarded(name, kernel)

    def run() -> None:
        last[:] = [
            call(*queries.call).clone()
        ]  # at once: what is not there yet when the call returns is not its output

    def time(repetitions: int) -> list[int]:
        return wall(run, queries.call.q.device, repetitions, queries.refresh)

    return KernelCandidate(columns, time, partial(last.__getitem__, 0))
