"""One replicate of the kernel check: a backend and every packed SDPA variant, on the same inputs, interleaved."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

import torch

from nsa.bench.apart.burst import Clocked
from nsa.bench.apart.process import CandidateProcess
from nsa.bench.check.burst import fact, judge_burst
from nsa.bench.check.corners.judge import corner_rows
from nsa.bench.check.correctness import judged_rows, untimed_rows
from nsa.bench.check.job import Job
from nsa.bench.check.loading import Loaded, here, shared_bytes, there
from nsa.bench.check.remote import RemoteCandidate
from nsa.bench.method import switches
from nsa.bench.method.accuracy import selected_oracle
from nsa.bench.method.circumstances import circumstances
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.method.interleave import Group, interleave
from nsa.bench.method.kernels import (
    Kernels,
    Outputs,
    Timed,
    able,
    changed_input,
    enter,
    judge,
    judge_timed,
    last_calls,
    on_unseen,
)
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import CudaTimer, bandwidths
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.backend import load as load_packed
from nsa.machine.nvml import Sampler
from nsa.records.facts import Alone, Burst, CheckFacts, LeftOut
from nsa.records.grids import grid
from nsa.records.shapes import CheckShape, GridShape
from nsa.records.words import AGAIN, BASELINE, PACKED, REFUSED, VARIANT, Row

BLOCKS = 5  # randomised blocks that the repetitions are spread over
CPU_CALLS = 5  # of each kernel on a CPU, which records no time
TIMED_SEED = 1000  # the inputs that are timed, one draw a process, are none of those checked before
UNSEEN_SEED = 500_000  # nor are those on which what is timed is replayed before
REPLAY_SEED = 1_000_000  # replays of one call that draw something of their own each


@dataclass(frozen=True)
class Run:
    """What the steps of a replicate share; `columns` name the shape in every row."""

    job: Job
    columns: Row
    timer: CudaTimer | None
    turn: Turn
    sampler: Sampler
    clock: Clock | None
    control: Control


Loader = Callable[[torch.device, bool], Loaded]  # of a device, and whether its kernel is timed there


def check_here(job: Job, turn: Turn) -> Replicated[CheckFacts]:
    """Check the job's backend in this process; raises as nsa.bench.apart.worker.replicate does."""
    machine, flags = job.host.machine, job.host.flags
    return check(job, turn, _variants(job), lambda *_: here(lambda: registry.load(job.backend, machine, flags)))


def check_there(job: Job, turn: Turn, process: CandidateProcess) -> Replicated[CheckFacts]:
    """The same, with the backend in the candidate's process."""
    machine, flags, settings = job.host.machine, job.host.flags, job.settings
    reserve = shared_bytes(settings, job.host.device.kind, replays=-(-settings.iters // BLOCKS))
    return check(
        job,
        turn,
        _variants(job),
        lambda device, timed: there(process, machine, flags, device, timed, reserve),
        ready=process.ready,
    )


def _variants(job: Job) -> Kernels:
    """Every packed SDPA variant, by the name of its rows; not by way of the registry, which imports specs of others."""
    return {f"{VARIANT}{name}": each for name, each in load_packed(job.host.machine, None).variants.items()}


def check_kernel(backend: Backend, rivals: Kernels, job: Job, turn: Turn, packs: bool) -> Replicated[CheckFacts]:
    """Check one backend's kernel in this process."""
    return check(replace(job, packs=packs), turn, rivals, lambda *_: here(lambda: backend))


def check(
    job: Job, turn: Turn, rivals: Kernels, load: Loader, ready: Callable[[], object] = lambda: None
) -> Replicated[CheckFacts]:
    """Check one kernel: correctness on ragged inputs, behaviour, the timed calls, and what needs no timing.

    Args:
        job: on what, and in which process.
        turn: the process's right to the GPU.
        rivals: packed SDPA's variants, by the names of their rows.
        load: the candidate; called once packed SDPA was timed without it.
        ready: waits until nothing else of this replicate is at work; called before anything is timed.
    """
    start, device, name = time.monotonic(), torch.device(job.host.device.kind), job.backend
    on_cuda = device.type == "cuda"
    if not on_cuda:
        torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
    timer = CudaTimer(device) if on_cuda else None
    seen, rows = switches.read(), list[Row]()
    left_out: list[LeftOut] = []
    others, bursts = set[int](), list[Burst]()
    with device_at_work(BASELINE if job.apart else name), Sampler(job.host.device.uuid) as sampler:
        clock = Clock(sampler, timer.nudge) if timer else None
        run = Run(job, {}, timer, turn, sampler, clock, Control(timer))
        rates: list[tuple[float, float]] = []
        ready()
        if on_cuda:
            with turn:
                rates.append(bandwidths(device))
        alone = _alone(rivals, run) if timer and job.apart else []
        candidate = load(timer.device if timer else device, timer is not None)
        kernels: Kernels = {name: candidate.backend.selection_kernel, **rivals}
        first: tuple[CheckShape, Kernels] | None = None  # the first shape, and the kernels that take it
        for shape in grid(job.settings, device.type):
            run = replace(run, columns={**asdict(shape), "process": job.process})
            takes, refused = able(kernels, ragged_case(shape, 0, device))
            if name in refused:
                rows.append({**run.columns, "backend": name, "seed": 0, "fault": f"{REFUSED}{refused[name]}"})
                continue
            left_out += (LeftOut(name=each, shape=str(shape), reason=why) for each, why in refused.items())
            rows += judged_rows(name, takes, shape, job, run.columns, counts=first is None)
            first = first or (shape, takes)
            found, clocked = _timed(name, takes, shape, run)
            rows += found
            bursts += clocked
            others.update(sampler.other_processes(turn.ours))
            print(f"check {name}: process {job.process + 1}: {shape}", flush=True)
        rows += untimed_rows(name, first, job)
        if first is not None and job.process == 0 and job.corners is not None:
            rows += corner_rows(name, kernels[name], rivals[PACKED], first[0], job.corners, device)
        notes, switched = registry.notes(candidate.backend), candidate.switched()
    facts = CheckFacts(
        **circumstances(
            job.host.device, job.process, time.monotonic() - start - turn.waited_s, rows, clock, rates, others
        ),
        notes=notes,
        dtype=job.settings.dtype.of(device.type),
        left_out=tuple(left_out),
        baseline_alone=tuple(alone),
        bursts=tuple(bursts),
        switches=seen,
        switched=switched,
    )
    return Replicated(rows, facts)


def _alone(rivals: Kernels, run: Run) -> list[Alone]:
    """What packed SDPA takes on the first and the last shape while there is no candidate."""
    job, found = run.job, list[Alone]()
    shapes = grid(job.settings, job.host.device.kind)
    device = torch.device(job.host.device.kind)
    for shape in dict.fromkeys((shapes[0], shapes[-1])):
        takes, _ = able(rivals, ragged_case(shape, 0, device))
        timed, order, _ = _entered(takes, shape, run)
        selected_oracle(timed.replays.call)  # the same heavy work before the turn as beside the candidate
        times: dict[str, list[int]] = {}
        with run.turn:
            blocks = _interleaved([list(timed.group.values())], order, run)
        for row in blocks:
            times.setdefault(str(row["backend"]), []).append(int(str(row["value_ns"])))
        found += (
            Alone(process=job.process, backend=name, shape=GridShape(*shape.sizes), median_ns=median(values))
            for name, values in times.items()
        )
    return found


def _entered(kernels: Kernels, shape: CheckShape, run: Run) -> tuple[Timed, random.Random, int]:
    """Kernels that are ready to be timed on a shape's full inputs, the order of all that follows, and its seed."""
    job, device = run.job, torch.device(run.job.host.device.kind)
    seed = TIMED_SEED * (job.seed + 1) + job.process
    order = random.Random(f"{seed}/{shape}")
    replays = Replays(full_case(shape, seed, device), job.secret + REPLAY_SEED * seed, changes=True)
    return enter(kernels, run.columns, replays, order, run.timer, every=True), order, seed


def _timed(name: str, kernels: Kernels, shape: CheckShape, run: Run) -> tuple[list[Row], list[Burst]]:
    """Time every kernel in randomised blocks, the checked one twice under two names, and judge all that they returned.

    On CUDA each kernel is a captured graph, timed cold. On a CPU the same calls are made but no time is recorded: it
    would decide nothing. Before, what is timed is replayed on inputs that it has never seen, ragged and full.
    """
    timed, order, seed = _entered({**kernels, f"{AGAIN}{name}": kernels[name]}, shape, run)
    call, mine, device = timed.replays.call, timed.group[name], torch.device(run.job.host.device.kind)
    rows: list[Row] = []
    for draw in (ragged_case, full_case):
        unseen = draw(shape, run.job.secret + UNSEEN_SEED + seed, device)
        outputs = _uncontrolled(on_unseen(timed, unseen, {name}))
        rows += judge(outputs, PACKED, run.columns, None, selected_oracle(unseen))
        del unseen  # caches of gigabytes: three are there at once, at most
    given = full_case(shape, seed, device)
    for tensor, original in zip(call[:5], given[:5], strict=True):
        tensor.copy_(original)
    apart = [each for each in timed.group.values() if isinstance(each, RemoteCandidate)]
    local = [each for each in timed.group.values() if not isinstance(each, RemoteCandidate)]
    for each in apart:
        each.give()
    beside = run.control.groups("backend", run.columns)
    with run.turn:
        times = _interleaved([local, apart] if apart else [local], order, run, beside)
        last, outputs = last_calls(timed)
        bursts = list[Clocked]()
        if run.timer and isinstance(mine, RemoteCandidate):
            events_ns = median(float(str(row["value_ns"])) for row in times if row["backend"] == name)
            bursts = mine.remote.bursts(name, timed.replays, events_ns, run.timer)
    changed = None
    if isinstance(mine, RemoteCandidate):
        changed = changed_input(mine.inputs(), call._replace(q=bursts[-1].last_q) if bursts else call)
        mine.remote.release()
    for burst in bursts:
        rows += judge_burst(burst, name, timed.group[PACKED], timed.replays, run.columns)
    judged = judge_timed(timed, _uncontrolled(outputs), PACKED, run.columns, run.job.secret + seed)
    if changed := changed or changed_input(call._replace(q=given.q), given):
        judged = [{**row, "fault": row.get("fault") or changed} if row["backend"] == name else row for row in judged]
    rows += judged
    if not run.timer:
        return rows, []
    return [*rows, *times, *last], [fact(burst, run.job.process, shape) for burst in bursts]


def _interleaved(groups: Sequence[Group], order: random.Random, run: Run, beside: Sequence[Group] = ()) -> list[Row]:
    """The blocks of a turn; groups of two processes alternate. `beside`: the control, in this process."""
    iters = run.job.settings.iters if run.timer else min(run.job.settings.iters, CPU_CALLS)
    every = [*groups, *beside]
    return interleave(every, iters, BLOCKS, order, run.sampler, run.timer, run.clock, alternating=len(groups) > 1)


def _uncontrolled(outputs: Outputs) -> Outputs:
    """What is judged: all but the A/A control's."""
    return {name: output for name, output in outputs.items() if not name.startswith(AGAIN)}
