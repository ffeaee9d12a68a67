"""The race of the launch_configs: for each size every candidate is judged, then timed in turns with the others; the slow drop out."""

from __future__ import annotations

import random
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from nsa.bench.method.accuracy import oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import Call, CheckShape, full_case, grid, ragged_case
from nsa.bench.method.interleave import Group, enter, interleave, last_calls
from nsa.bench.method.timing import CudaTimer
from nsa.bench.runner import out_of_memory
from nsa.bench.tune.stage import Sizes
from nsa.errors import KernelFailed
from nsa.kernels.contract import HEAD_DIMS, MAX_HEADS_PER_GROUP, SelectAttention
from nsa.kernels.triton.plan import Plan, candidates, rule
from nsa.kernels.triton.select import describe, run, size_of
from nsa.machine.host import Host

REPETITIONS = 5  # of a candidate in a block
BLOCKS = 3
FAR_BEHIND = 1.5  # times the best after the first block: timed no more
JUDGED_ROWS = 64  # of the ragged call: the cut's masks and its combination do not depend on how many rows there are
WORST_ROW = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # what rounding alone may cost, relative
SEED = 0

Kernels = Mapping[Plan, SelectAttention]


@dataclass(frozen=True)
class Job:
    """What is tuned, and where."""

    sizes: Sizes
    host: Host


@dataclass(frozen=True)
class Outcome:
    """What the launch_configs hold for, and for each size the one that won with all that were tried; or why memory was short."""

    tuned_for: str | None = None
    sizes: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def race_all(job: Job) -> Outcome:
    """Tune every size in this process.

    Raises:
        KernelFailed: a cut failed while it ran; such a device answers nothing more.
    """
    device, rows = torch.device(job.host.device), []
    timer = CudaTimer(device)
    try:
        for shape in shapes(job.sizes, job.host.device):
            rows.append(tune(shape, device, timer))
            print(f"tune: {shape}: {rows[-1]['plan']}", flush=True)
    except RuntimeError as error:  # what torch and Triton raise for a kernel that fails on the device
        if out_of_memory(error):
            return Outcome(error=str(error).splitlines()[0])
        traceback.print_exc()  # into the job's log
        raise KernelFailed(str(error).splitlines()[0]) from error
    return Outcome(describe(device), rows)


def shapes(sizes: Sizes, device: str) -> list[CheckShape]:
    """Every shape that decode, check and roofline give the kernel, each once; not what it refuses."""
    check, roofline, step = sizes.check, sizes.roofline, sizes.step
    context = max(check.context, step["sel_count"] * step["sel_block"])  # every block exists
    decode = CheckShape(**{**step, "context": context, "dtype": step["dtype"][device]})
    axes = product(roofline.rows, roofline.heads_per_group, roofline.head_dim, roofline.sel_count)
    fixed = (roofline.sel_block, roofline.context, roofline.groups, roofline.dtype)
    every = [decode, *grid(check, device), *(CheckShape(N, h, D, D, n, *fixed) for N, h, D, n in axes)]
    return [shape for shape in dict.fromkeys(every) if taken(shape)]


def taken(shape: CheckShape) -> bool:
    """Whether the kernel takes a shape."""
    widest = max(shape.head_dim, shape.value_dim)
    return widest <= max(HEAD_DIMS) and shape.heads_per_group <= MAX_HEADS_PER_GROUP


def tune(shape: CheckShape, device: torch.device, timer: CudaTimer | None) -> dict[str, Any]:
    """One size: every cut that was tried, and the fastest of the right ones."""
    call = full_case(shape, SEED, device)
    size = size_of(call.q, call.v, call.block_indices, call.block_size)
    kernels = {plan: partial(run, plan) for plan in candidates(size)}
    ragged = ragged_case(replace(shape, rows=min(shape.rows, JUDGED_ROWS)), SEED, device)
    tried = compare(kernels, call, ragged, timer)
    right = [row for row in tried if row["fault"] is None]
    best = min(right, key=lambda row: row["median_us"], default=None)
    return {
        "size": asdict(size),
        "plan": best and best["plan"],
        "rule": asdict(rule(size)),
        "candidates": tried,
    }


def compare(kernels: Kernels, call: Call, ragged: Call, timer: CudaTimer | None) -> list[dict[str, Any]]:
    """Every cut with its fault, if any, and its median time.

    A cut is judged twice against the float64 oracle: before, on a ragged call, and by what its last timed call
    returned. A wrong one is not timed, or its time does not count.

    Args:
        kernels: the launch_configs.
        call: what is timed, cold and captured with a timer; as it is on a CPU, without one.
        ragged: a call with lengths, empty rows and padding of every kind.
    """
    names = {f"{place}": plan for place, plan in enumerate(kernels)}
    exact = oracle(ragged)
    faults = {name: _judge(kernels[plan], ragged, exact) for name, plan in names.items()}
    times: dict[str, list[int]] = {name: [] for name in names}
    able = {name: kernels[plan] for name, plan in names.items() if faults[name] is None}
    if able:
        order = random.Random(SEED)
        group, queries = enter(able, {}, call, order, timer)
        for _ in range(BLOCKS):
            for row in interleave([group], REPETITIONS, 1, order):
                times[row["backend"]].append(row["value_ns"])
            limit = FAR_BEHIND * min(median(times[name]) for name in group.candidates)
            group = Group(
                {}, {name: candidate for name, candidate in group.candidates.items() if median(times[name]) <= limit}
            )
        _, outputs = last_calls(group, queries)
        exact = oracle(call)
        faults |= {name: found or _far_off(output, exact) for name, (output, found) in outputs.items()}
    return [
        {
            "plan": asdict(plan),
            "fault": faults[name],
            "median_us": median(times[name]) / 1e3 if times[name] else None,
            "repetitions": len(times[name]),
        }
        for name, plan in names.items()
    ]


def _judge(kernel: SelectAttention, call: Call, exact: torch.Tensor) -> str | None:
    try:
        output, found = run_poisoned(kernel, call)
    except OutOfResources as error:  # more shared memory than this device has
        return str(error)
    return found or _far_off(output, exact)


def _far_off(output: torch.Tensor, exact: torch.Tensor) -> str | None:
    error, allowed = worst_row_error(output, exact), WORST_ROW[output.dtype]
    return None if error <= allowed else f"its worst row is {error:.2g} off the oracle, more than {allowed:g}"
