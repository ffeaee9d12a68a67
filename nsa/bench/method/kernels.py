"""Selection kernels made ready to be timed on one call, and what their timed calls returned, judged."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from nsa.bench.method.accuracy import fault, mean_absolute_error, same_bits, selected_oracle, worst_row_error
from nsa.bench.method.candidate import KernelCandidate, Returned
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.bench.method.remote import RemoteKernel
from nsa.bench.method.replays import Changes, Judge, Replays
from nsa.bench.method.timing import CudaTimer, wall
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.failures import kernel_at_work
from nsa.records.words import Row, Scalar

WARMUP = 3  # calls before a capture

Kernels = Mapping[str, SelectAttention]
Outputs = dict[str, tuple[torch.Tensor, str | None]]  # what kernels returned, and what is wrong with it at first sight


@dataclass(frozen=True)
class Timed:
    """Kernels that take turns on one call."""

    group: Mapping[str, KernelCandidate]
    replays: Replays


def able(kernels: Kernels, call: Call) -> tuple[dict[str, SelectAttention], dict[str, str]]:
    """The kernels that take a call, guarded, and why the others refuse it."""
    takes: dict[str, SelectAttention] = {}
    refused: dict[str, str] = {}
    for name, kernel in kernels.items():
        try:
            (kernel if isinstance(kernel, RemoteKernel) else guarded(name, kernel))(*call)
        except InputError as error:
            refused[name] = str(error)
        else:
            if isinstance(kernel, RemoteKernel):
                takes[name] = kernel.having_taken()
            else:
                takes[name] = guarded(name, kernel, takes=True)
    return takes, refused


def enter(
    kernels: Kernels, columns: Row, replays: Replays, order: random.Random, timer: CudaTimer | None, every: bool = False
) -> Timed:
    """Make kernels ready to be timed on one call: captured graphs with a timer, the calls themselves without one.

    They are captured in random order: where a graph's memory lies moves its time.

    Args:
        kernels: by the name that their rows have; one may be there twice, as its own A/A control.
        columns: what names the call in every row.
        replays: the inputs, which change before each timed call.
        order: the source of the random order.
        timer: on CUDA; None on a CPU, whose wall times decide nothing.
        every: whether what each timed call returns is kept, to be judged.
    """
    group: dict[str, KernelCandidate] = {}
    for name in order.sample(list(kernels), len(kernels)):
        kernel, own, returned = kernels[name], {**columns, "backend": name}, Returned(every)
        if isinstance(kernel, RemoteKernel):
            group[name] = kernel.prepare(own, replays, returned)
        else:
            group[name] = prepare(name, kernel, own, replays, returned, timer)
    return Timed(group, replays)


def prepare(
    name: str,
    kernel: SelectAttention,
    columns: Row,
    replays: Changes,
    returned: Returned,
    timer: CudaTimer | None,
) -> KernelCandidate:
    """Make one kernel of this process ready to be timed."""
    if timer is None:
        return _on_cpu(name, kernel, columns, replays, returned)
    return _on_cuda(timer, name, kernel, columns, replays, returned)


def on_unseen(timed: Timed, unseen: Call, repeat: Collection[str]) -> Outputs:
    """Replay what is about to be timed on inputs that it has never seen, copied into the tensors that it was made for.

    Each output is poisoned before; the inputs are compared with `unseen`, which only the harness holds.

    Args:
        timed: the candidates.
        unseen: other inputs of the same sizes.
        repeat: the candidates of which two replays must give the same bits.
    """
    call, outputs = timed.replays.call, dict[str, tuple[torch.Tensor, str | None]]()
    for name, candidate in timed.group.items():
        for tensor, other in zip(call[:5], unseen[:5], strict=True):
            tensor.copy_(other)
        output = candidate.replay().clone()
        found = fault(output, unseen) or changed_input(call, unseen)
        if found is None and name in repeat and not same_bits(candidate.replay(), output):
            found = "two replays on the same inputs differ"
        outputs[name] = output, found
    return outputs


def changed_input(call: Call, before: Call) -> str | None:
    """Which input is no longer what the harness gave, as a fault; None when all are."""
    for name, now, then in zip(Call._fields, call[:5], before[:5], strict=False):
        if not same_bits(now, then):
            return f"the input {name} was changed"
    return None


def last_calls(timed: Timed) -> tuple[list[Row], Outputs]:
    """Time each once more, all with one query that none has seen: the rows, and what these calls returned."""
    replays = timed.replays
    rows: list[Row] = []
    outputs: Outputs = {}
    common = replays.count  # the same draw for all: their outputs are compared with each other
    for place, (name, candidate) in enumerate(timed.group.items()):
        replays.count = common
        (value,) = candidate.time(1)
        rows.append({**candidate.columns, "order": place, "value_ns": value})
        output = candidate.returned.outputs[-1] if candidate.returned.every else candidate.replay().clone()
        outputs[name] = output, fault(output, replays.call)
    replays.count = common
    replays.refresh()  # of those that run elsewhere this process changed no input
    return rows, outputs


def judge(outputs: Outputs, packed: str, columns: Row, seed: int | None, exact: torch.Tensor) -> list[Row]:
    """Compare each output with packed SDPA's in the same dtype and with the float64 oracle: one row each.

    Args:
        outputs: what kernels returned.
        packed: the name of packed SDPA among them.
        columns: what names the inputs in every row.
        seed: of the ragged inputs; None of others.
        exact: what the oracle says of the inputs.
    """
    reference = outputs[packed][0]
    packed_error = worst_row_error(reference, exact)
    rows: list[Row] = []
    for name, (output, found) in outputs.items():
        row: dict[str, Scalar] = {**columns, "backend": name, "seed": seed, "fault": found}
        row["sdpa_oracle_error"] = packed_error
        if output.shape == exact.shape:
            row |= {"mae": mean_absolute_error(output, reference), "oracle_error": worst_row_error(output, exact)}
        rows.append(row)
    return rows


def judge_timed(timed: Timed, outputs: Outputs, packed: str, columns: Row, seed: int) -> list[Row]:
    """One row a kernel for all that its timed calls returned: the last in every row, the others in some.

    Args:
        timed: the candidates, whose every output was kept.
        outputs: of the last calls of those that are judged, which had one query.
        packed: the name of packed SDPA among them.
        columns: what names the inputs in every row.
        seed: of the rows that are judged.
    """
    exact = selected_oracle(timed.replays.call)  # K and V are as the last calls had them
    rows = judge(outputs, packed, columns, None, exact)
    timed.replays.restore()
    judging = Judge(timed.replays, seed)
    returned = {name: timed.group[name].returned for name in outputs}
    worst = {name: judging.worst(each.replays, each.outputs) for name, each in returned.items()}
    return [
        {
            **row,
            "judged": len(returned[str(row["backend"])].replays),
            "oracle_error": _larger(row.get("oracle_error"), worst[str(row["backend"])]),
            "sdpa_oracle_error": _larger(row.get("sdpa_oracle_error"), worst[packed]),
        }
        for row in rows
    ]


def _larger(one: object, other: float) -> float | None:
    if not isinstance(one, float):
        return None  # the output has another shape: there is no error
    return max(one, other, key=lambda error: (error != error, error))  # noqa: PLR0124


def _on_cuda(
    timer: CudaTimer, name: str, kernel: SelectAttention, columns: Row, replays: Changes, returned: Returned
) -> KernelCandidate:
    with kernel_at_work(name):
        captured = timer.capture(lambda: None, partial(kernel, *replays.call), WARMUP)
    output = captured.output

    def replay() -> torch.Tensor:
        output.fill_(torch.nan)
        captured.graph.replay()
        return output

    def before() -> None:
        replays.refresh()
        output.fill_(torch.nan)

    def after() -> None:
        returned.keep(output, replays.count)
        replays.count += 1

    def time(repetitions: int) -> list[int]:
        return timer.time(before, captured.graph.replay, True, repetitions, after)

    return KernelCandidate(columns, time, replay, returned, captured.graph.replay)


def _on_cpu(name: str, kernel: SelectAttention, columns: Row, replays: Changes, returned: Returned) -> KernelCandidate:
    call = guarded(name, kernel)

    def replay() -> torch.Tensor:
        return call(*replays.call).clone()  # at once: what is not there yet when the call returns is not its output

    def run() -> None:
        returned.keep(replay(), replays.count)
        replays.count += 1

    def time(repetitions: int) -> list[int]:
        return wall(run, replays.call.q.device, repetitions, replays.refresh)

    for _ in range(WARMUP):  # as before a capture
        replay()

    return KernelCandidate(columns, time, replay, returned, replay)
