"""Launch configurations of the Triton kernel compared: for each size every one is judged, then timed in turns."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from triton.runtime.errors import OutOfResources

from nsa.bench.method.accuracy import run_poisoned, selected_oracle, worst_row_error
from nsa.bench.method.clocks import Clock
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.interleave import interleave
from nsa.bench.method.kernels import Kernels, Timed, enter, last_calls
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import CudaTimer
from nsa.bench.runner import Replicated
from nsa.bench.tune.job import Job, Sizes, Tried, TunedSize, TuneFacts
from nsa.bench.workers import Turn
from nsa.kernels.compiling import NotCompiled
from nsa.kernels.contract import SelectAttention
from nsa.kernels.failures import kernel_at_work
from nsa.kernels.limits import HEAD_DIMS, MAX_HEADS_PER_GROUP
from nsa.kernels.triton.plan import LaunchConfig, candidates, rule
from nsa.kernels.triton.select import describe, run, size_of
from nsa.machine.nvml import Sampler
from nsa.records.grids import grid, roofline_grid
from nsa.records.shapes import CheckShape
from nsa.records.words import AGAIN

REPETITIONS = 5  # of a candidate in a block
BLOCKS = 3
FAR_BEHIND = 1.5  # times the best after the first block: timed no more
JUDGED_ROWS = 64  # of the ragged call: masks and the combination do not depend on how many rows there are
WORST_ROW = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # what rounding alone may cost, relative
SEED = 0


def replicate(job: Job, turn: Turn) -> Replicated[TuneFacts]:
    """Tune one process's share of the sizes.

    Raises:
        NoMemory: a size does not fit.
        KernelFailed: a configuration failed while it ran; such a device answers nothing more.
    """
    device = torch.device(job.host.device.kind)
    timer = CudaTimer(device) if device.type == "cuda" else None
    tuned: list[TunedSize] = []
    with device_at_work("triton"), Sampler(job.host.device.uuid) as sampler:
        every = shapes(job.sizes, device.type)
        compile_share(every, job, device)
        with turn:
            pass  # each process then finds what the others have compiled
        for shape in every[job.process :: job.of]:
            tuned.append(tune(shape, device, timer, turn, sampler))
            print(f"tune: {shape}: {tuned[-1].plan}", flush=True)
    return Replicated([], TuneFacts(device=job.host.device, tuned_for=describe(device), sizes=tuple(tuned)))


def compile_share(every: Sequence[CheckShape], job: Job, device: torch.device) -> None:
    """Compile this process's share of all kernels that will be tried, into Triton's cache on disk.

    Compiling takes most of the tuning, and sizes share kernels: each is compiled once, by one of the processes.

    Raises:
        NotCompiled: no kernel of the share compiles here; one that alone does not is out of the tuning (`_judge`).
    """
    kernels: dict[tuple[int, int, int, str, LaunchConfig], CheckShape] = {}
    for shape in every:
        small = replace(shape, rows=shape.groups)
        call = full_case(small, SEED, device)
        size = replace(size_of(call.q, call.v, call.block_indices, call.block_size), rows=shape.rows)
        for plan in candidates(size):
            kernels.setdefault((shape.head_dim, shape.value_dim, shape.sel_block, shape.dtype, plan), small)
    compiled, broken = False, None
    for place, ((*_, plan), small) in enumerate(kernels.items()):
        if place % job.of == job.process:
            with kernel_at_work("triton"), suppress(OutOfResources):
                try:
                    run(plan, *full_case(small, SEED, device))
                except NotCompiled as error:
                    broken = error
                    continue
            compiled = True
    if broken is not None and not compiled:
        raise broken


def shapes(sizes: Sizes, device: str) -> list[CheckShape]:
    """Every shape that decode, check and roofline give the kernel, each once; not what it refuses."""
    check, step = sizes.check, sizes.step
    context = max(check.context, step.sel_count * step.sel_block)  # every block exists
    decode = CheckShape(context=context, **{**step.model_dump(), "dtype": step.dtype.of(device)})
    every = [decode, *grid(check, device), *roofline_grid(sizes.roofline)]
    return [shape for shape in dict.fromkeys(every) if taken(shape)]


def taken(shape: CheckShape) -> bool:
    """Whether the kernel takes a shape."""
    widest = max(shape.head_dim, shape.value_dim)
    return widest <= max(HEAD_DIMS) and shape.heads_per_group <= MAX_HEADS_PER_GROUP


def tune(shape: CheckShape, device: torch.device, timer: CudaTimer | None, turn: Turn, sampler: Sampler) -> TunedSize:
    """One size: every configuration that was tried, and the fastest of the right ones."""
    call = full_case(shape, SEED, device)
    size = size_of(call.q, call.v, call.block_indices, call.block_size)
    kernels = {plan: partial(run, plan) for plan in candidates(size)}
    ragged = ragged_case(replace(shape, rows=min(shape.rows, JUDGED_ROWS)), SEED, device)
    tried, aa_ratio = compare(kernels, call, ragged, timer, turn, sampler)
    right = [row for row in tried if row.fault is None and (row.median_us or 0.0) > 0]  # 0 is no time of anything
    best = min(right, key=lambda row: row.median_us or 0.0, default=None)
    return TunedSize(
        size=size,
        plan=best.plan if best else None,
        rule=rule(size),
        candidates=tuple(tried),
        aa_ratio=aa_ratio,
    )


def compare(
    kernels: Mapping[LaunchConfig, SelectAttention],
    call: Call,
    ragged: Call,
    timer: CudaTimer | None,
    turn: Turn,
    sampler: Sampler,
) -> tuple[list[Tried], float | None]:
    """Every configuration with its fault, if any, and its median time; and the A/A control's ratio.

    A configuration is judged twice against the float64 oracle: before, on a ragged call, and by what its last timed
    call returned. A wrong one is not timed, or its time does not count. Those far behind after a block drop out.

    Args:
        kernels: the configurations, the rule's own first.
        call: what is timed, cold and captured with a timer; as it is on a CPU, without one.
        ragged: a call with lengths, empty rows and padding of every kind.
        timer: on CUDA.
        turn: the process's right to the GPU.
        sampler: of the GPU.
    """
    names = {f"triton {place}": plan for place, plan in enumerate(kernels)}
    exact = selected_oracle(ragged)
    faults = {name: _judge(kernels[plan], ragged, exact) for name, plan in names.items()}
    able: Kernels = {name: kernels[plan] for name, plan in names.items() if faults[name] is None}
    times: dict[str, list[int]] = {}
    if able:
        first = next(iter(able))
        order = random.Random(SEED)
        with kernel_at_work("triton"):
            timed = enter(
                {**able, f"{AGAIN}{first}": able[first]}, {}, Replays(call, SEED, changes=False), order, timer
            )
        with turn:
            times, timed = _times(timed, first, order, sampler, timer)
            _, outputs = last_calls(timed)
        exact = selected_oracle(call)
        known = {name: output for name, output in outputs.items() if name in names}
        faults |= {name: found or _far_off(output, exact) for name, (output, found) in known.items()}
    tried = [
        Tried(
            plan=plan,
            fault=faults[name],
            median_us=median(times[name]) / 1e3 if name in times else None,
            repetitions=len(times.get(name, ())),
        )
        for name, plan in names.items()
    ]
    again = [name for name in times if name.startswith(AGAIN)]
    aa_ratio = median(times[again[0]]) / median(times[again[0].removeprefix(AGAIN)]) if again else None
    return tried, aa_ratio


def _times(
    timed: Timed, first: str, order: random.Random, sampler: Sampler, timer: CudaTimer | None
) -> tuple[dict[str, list[int]], Timed]:
    """The times of each in blocks, and those that were still timed in the last; the first and its control stay."""
    times: dict[str, list[int]] = {name: [] for name in timed.group}
    clock = Clock(sampler, timer.nudge) if timer else None
    for _ in range(BLOCKS):
        for row in interleave([list(timed.group.values())], REPETITIONS, 1, order, sampler, timer, clock):
            name, value = row["backend"], row["value_ns"]
            assert isinstance(name, str) and isinstance(value, int)
            times[name].append(value)
        limit = FAR_BEHIND * min(median(times[name]) for name in timed.group)
        kept = (first, f"{AGAIN}{first}")
        near = {name: one for name, one in timed.group.items() if name in kept or median(times[name]) <= limit}
        timed = replace(timed, group=near)
    return times, timed


def _judge(kernel: SelectAttention, call: Call, exact: torch.Tensor) -> str | None:
    with kernel_at_work("triton"):
        try:
            output, found = run_poisoned(kernel, call)
        except (OutOfResources, NotCompiled) as error:  # OutOfResources: more shared memory than this device has
            return str(error)
    return found or _far_off(output, exact)


def _far_off(output: torch.Tensor, exact: torch.Tensor) -> str | None:
    error, allowed = worst_row_error(output, exact), WORST_ROW[output.dtype]
    return None if error <= allowed else f"its worst row is {error:.2g} off the oracle, more than {allowed:g}"
