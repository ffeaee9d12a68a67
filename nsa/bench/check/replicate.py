"""One replicate of the kernel check: a backend and every packed SDPA variant, on the same inputs, interleaved."""

from __future__ import annotations

import random
import time
from dataclasses import asdict

import torch

from nsa import backends
from nsa.bench.check.corners.judge import corner_rows
from nsa.bench.check.job import Job
from nsa.bench.method.accuracy import oracle, run_poisoned, selected_oracle
from nsa.bench.method.behaviour import follows_its_inputs, is_packed_sdpa, reads_what_it_is_given, repeats
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.interleave import interleave, replicate_facts
from nsa.bench.method.kernels import (
    Kernels,
    Outputs,
    able,
    changed_input,
    enter,
    judge,
    judge_timed,
    last_calls,
    on_unseen,
)
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import FLUSH, NO_FLUSH, CudaTimer, bandwidths
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.machine.nvml import Sampler
from nsa.records.facts import CheckFacts, LeftOut
from nsa.records.grids import grid
from nsa.records.shapes import CheckShape
from nsa.records.words import AGAIN, BASELINE, PACKED, REFUSED, VARIANT, Row

BLOCKS = 5  # randomised blocks that the repetitions are spread over
CPU_CALLS = 5  # of each kernel on a CPU, which records no time
SEEDS = 1000  # draws that one seed of the check keeps for itself
TIMED_SEED = 1000  # the inputs that are timed, one draw a process, are none of those checked before
UNSEEN_SEED = 500_000  # nor are those on which what is timed is replayed before
REPLAY_SEED = 1_000_000  # replays of one call that draw something of their own each


def replicate(job: Job, turn: Turn) -> Replicated[CheckFacts]:
    """Check the job's backend on the whole grid against every packed SDPA variant.

    Raises:
        BackendUnavailable: the backend cannot run here.
        NoMemory: a shape does not fit.
        KernelFailed: the backend, or a packed variant, failed while it ran.
    """
    backend = registry.load(job.backend, job.host.machine, job.host.flags)
    packed = registry.load(BASELINE, job.host.machine, job.host.flags)
    rivals = {f"{VARIANT}{name}": variant for name, variant in packed.variants.items()}
    return check_kernel(backend, rivals, job, turn, backends.spec(job.backend).packs)


def check_kernel(backend: Backend, rivals: Kernels, job: Job, turn: Turn, packs: bool) -> Replicated[CheckFacts]:
    """Check one backend's kernel: correctness on ragged inputs, behaviour, and the timed calls.

    Args:
        backend: whose kernel is checked.
        rivals: packed SDPA's variants, by the names of their rows.
        job: on what, and in which process.
        turn: the process's right to the GPU.
        packs: whether the backend may launch what packed SDPA launches.
    """
    start, device, name = time.monotonic(), torch.device(job.host.device.kind), backend.name
    on_cuda = device.type == "cuda"
    if not on_cuda:
        torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
    timer = CudaTimer(device) if on_cuda else None
    kernels = {name: backend.selection, **rivals}
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    others: set[int] = set()
    with device_at_work(name), Sampler(job.host.device.uuid) as sampler:
        rates: list[tuple[float, float]] = []
        if on_cuda:
            with turn:
                rates.append(bandwidths(device))
        first: tuple[CheckShape, Kernels] | None = None  # the first shape, and the kernels that take it
        for shape in grid(job.settings, device.type):
            columns: Row = {**asdict(shape), "process": job.process}
            takes, refused = able(kernels, ragged_case(shape, 0, device))
            if name in refused:
                rows.append({**columns, "backend": name, "seed": 0, "fault": f"{REFUSED}{refused[name]}"})
                continue
            left_out += (LeftOut(name=each, shape=str(shape), reason=why) for each, why in refused.items())
            rows += _judged(name, takes, shape, job, columns, counts=first is None)
            first = first or (shape, takes)
            rows += _timed(name, takes, shape, job, columns, timer, turn, sampler)
            others.update(sampler.other_processes(turn.ours))
            print(f"check {name}: process {job.process + 1}: {shape}", flush=True)
        if first is not None and job.process == 0 and not packs:
            # After the timing: a process that was profiled launches more slowly ever after.
            fault = is_packed_sdpa(name, first[1], _probe(first[0], job))
            rows += [{**asdict(first[0]), "process": 0, "backend": name, "seed": 0, "fault": fault}] if fault else []
        if first is not None and job.process == 0 and job.corners is not None:
            rows += corner_rows(name, kernels[name], rivals[PACKED], first[0], job.corners, device)
    facts = CheckFacts(
        device=job.host.device,
        flush=FLUSH if on_cuda else NO_FLUSH,
        bandwidth_bytes_per_s=tuple(copied for copied, _ in rates),
        read_bandwidth_bytes_per_s=tuple(read for _, read in rates),
        replicates=(replicate_facts(job.process, time.monotonic() - start - turn.waited_s, rows),),
        other_processes=tuple(sorted(others)),
        notes=registry.notes(backend),
        dtype=job.settings.dtype.of(device.type),
        left_out=tuple(left_out),
    )
    return Replicated(rows, facts)


def _judged(name: str, kernels: Kernels, shape: CheckShape, job: Job, columns: Row, *, counts: bool) -> list[Row]:
    """Fresh ragged inputs for each of the process's seeds; in the first process, too, how the kernel behaves.

    The processes share the seeds among them. The first row is the checked kernel's, and has the fault of its behaviour.
    Reads are counted on one shape (counts): no shape changes what that shows.
    """
    seeds = range(job.process, job.settings.seeds, job.of)
    rows = [row for seed in seeds for row in _correctness(kernels, shape, seed, job, columns)]
    if job.process > 0:
        return rows
    kernel, call = kernels[name], _probe(shape, job)
    fault = rows[0].get("fault") or repeats(kernel, call)
    if fault is None and counts:
        fault = reads_what_it_is_given(kernel, call)
    return [{**rows[0], "fault": fault or follows_its_inputs(kernel, call)}, *rows[1:]]


def _probe(shape: CheckShape, job: Job) -> Call:
    """The ragged inputs on which a kernel's behaviour is looked at."""
    return ragged_case(shape, SEEDS * job.seed + SEEDS // 2, torch.device(job.host.device.kind))


def _correctness(kernels: Kernels, shape: CheckShape, seed: int, job: Job, columns: Row) -> list[Row]:
    """One row a kernel: its faults and errors on fresh ragged inputs, its output memory poisoned before.

    The dense oracle judges the first seed and the batched one the others: were the latter wrong, kernels that are right
    on the first seed would fail on them.
    """
    call = ragged_case(shape, SEEDS * job.seed + seed, torch.device(job.host.device.kind))
    outputs = {name: run_poisoned(kernel, call) for name, kernel in kernels.items()}
    exact = oracle(call) if seed == 0 else selected_oracle(call)
    return judge(outputs, PACKED, columns, seed, exact)


def _timed(
    name: str,
    kernels: Kernels,
    shape: CheckShape,
    job: Job,
    columns: Row,
    timer: CudaTimer | None,
    turn: Turn,
    sampler: Sampler,
) -> list[Row]:
    """Time every kernel in randomised blocks, the checked one twice under two names, and judge all that they returned.

    On CUDA each kernel is a captured graph, timed cold. On a CPU the same calls are made but no time is recorded: it
    would decide nothing. Before, what is timed is replayed on inputs that it has never seen, ragged and full.
    """
    device, seed = torch.device(job.host.device.kind), TIMED_SEED * (job.seed + 1) + job.process
    call, order = full_case(shape, seed, device), random.Random(f"{seed}/{shape}")
    replays = Replays(call, REPLAY_SEED * seed, changes=True)
    timed = enter({**kernels, f"{AGAIN}{name}": kernels[name]}, columns, replays, order, timer, every=True)
    rows: list[Row] = []
    for unseen in (ragged_case(shape, UNSEEN_SEED + seed, device), full_case(shape, UNSEEN_SEED + seed, device)):
        outputs = _uncontrolled(on_unseen(timed, unseen, {name}))
        rows += judge(outputs, PACKED, columns, None, selected_oracle(unseen))
    given = full_case(shape, seed, device)
    for tensor, original in zip(call[:5], given[:5], strict=True):
        tensor.copy_(original)
    with turn:
        iters = job.settings.iters if timer else min(job.settings.iters, CPU_CALLS)
        times = interleave([list(timed.group.values())], iters, BLOCKS, order, sampler, timer)
        last, outputs = last_calls(timed)
    judged = judge_timed(timed, _uncontrolled(outputs), PACKED, columns, seed)
    if changed := changed_input(call._replace(q=given.q), given):
        judged = [{**row, "fault": row.get("fault") or changed} if row["backend"] == name else row for row in judged]
    rows += judged
    return [*rows, *times, *last] if timer else rows


def _uncontrolled(outputs: Outputs) -> Outputs:
    """What is judged: all but the A/A control's."""
    return {name: output for name, output in outputs.items() if not name.startswith(AGAIN)}
