"""One replicate of the core check: a core, the composed core and dense attention on the same caches, interleaved."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import torch
from pydantic import JsonValue

from nsa.attention.composition import compose
from nsa.bench.core import dense
from nsa.bench.core.corners import corner_rows, fill_unseen
from nsa.bench.core.inputs import CoreCall, Draw, Replays, allocate, changed, fill, sizes_of
from nsa.bench.core.job import Job
from nsa.bench.core.judge import Judged, differ, judge, judge_dense
from nsa.bench.core.subject import WARMUP, Subject, bound, prepare
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.interleave import Candidate, interleave, replicate_facts
from nsa.bench.method.timing import FLUSH, NO_FLUSH, CudaTimer, bandwidths
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.errors import InputError
from nsa.kernels import registry
from nsa.kernels.core import SEL, Core
from nsa.kernels.sdpa.packed import gather
from nsa.machine.nvml import Sampler
from nsa.records.facts import CoreFacts, LeftOut
from nsa.records.grids import core_grid
from nsa.records.shapes import CoreShape
from nsa.records.words import AGAIN, COMPOSED, DENSE, EMPTY, ITEM_BYTES, KEYS, REFUSED, TIMED, UNSEEN, Row

BLOCKS = 5  # randomised blocks that the repetitions are spread over
CPU_CALLS = 3  # of each core on a CPU, which records no time
JUDGED = 2  # sequences of a timed output that are judged, drawn after the replays; all of the core's last one
SEEDS = 1 << 24  # draws that one process of one seed keeps for itself


@dataclass(frozen=True)
class Run:
    """What the steps of a replicate share."""

    job: Job
    timer: CudaTimer | None
    turn: Turn
    sampler: Sampler
    clock: Clock | None
    control: Control
    rivals: Mapping[str, dense.Dense]
    left_out: list[LeftOut]


def replicate(job: Job, turn: Turn) -> Replicated[CoreFacts]:
    """Check the job's core in this process.

    Raises:
        BackendUnavailable: the backend is there and does not load.
        NoMemory: a shape does not fit.
        KernelFailed: the core failed while it ran.
    """
    loaded = registry.load(job.backend, job.host.machine, job.host.flags)
    return check_core(job, turn, loaded.decode_core, lambda: registry.notes(loaded))


def check_core(
    job: Job, turn: Turn, core: Core, notes: Callable[[], tuple[JsonValue, ...]] = tuple
) -> Replicated[CoreFacts]:
    """Check one core: the captured call on unseen inputs, the timed calls, and corner cases."""
    start, device = time.monotonic(), torch.device(job.host.device.kind)
    on_cuda, rows, rates, others = device.type == "cuda", list[Row](), list[tuple[float, float]](), set[int]()
    found, absent = dense.kernels() if on_cuda and not job.timed_only else ({}, {})
    left_out = [LeftOut(name=f"{DENSE}{name}", shape="every shape", reason=why) for name, why in absent.items()]
    with device_at_work(job.backend), Sampler(job.host.device.uuid) as sampler:
        timer = CudaTimer(device) if on_cuda else None
        clock = Clock(sampler, timer.nudge) if timer else None
        run = Run(job, timer, turn, sampler, clock, Control(timer), found, left_out)
        if on_cuda:
            with turn:
                rates.append(bandwidths(device))
        grid = core_grid(job.settings, device.type)
        for place, shape in enumerate(grid):
            rows += _shape(core, shape, place, run)
            others.update(sampler.other_processes(turn.ours))
            print(f"core {job.backend}: process {job.process + 1}: {shape}", flush=True)
        if job.process == 0 and job.corners is not None:
            rows += corner_rows(job.backend, core, compose(gather), grid[0], job.corners, device)
        said = notes()
    facts = CoreFacts(
        device=job.host.device,
        flush=FLUSH if on_cuda else NO_FLUSH,
        bandwidth_bytes_per_s=tuple(copied for copied, _ in rates),
        read_bandwidth_bytes_per_s=tuple(read for _, read in rates),
        replicates=(replicate_facts(job.process, time.monotonic() - start - turn.waited_s, rows, clock),),
        other_processes=tuple(sorted(others)),
        notes=said,
        dtype=job.settings.dtype.of(device.type),
        left_out=tuple(left_out),
    )
    return Replicated([{**row, "process": job.process} for row in rows], facts)


def _shape(core: Core, shape: CoreShape, place: int, run: Run) -> list[Row]:
    """Everything on one shape: capture, unseen inputs, timing, and what the timed calls gave, judged."""
    job, device = run.job, torch.device(run.job.host.device.kind)
    seed = SEEDS * (job.seed + 1) + (place << 14) + (job.process << 20)
    order, keys = random.Random(seed), KEYS[(place + job.process) % len(KEYS)]
    call, draw = allocate(shape, device), Draw(keys, seed, (shape.context,) * shape.batch)
    fill(call, draw)
    columns: Row = {**asdict(shape), "keys": keys, "seed": seed}
    name, cores = job.backend, {job.backend: core, COMPOSED: compose(gather)}
    try:
        bound(name, core, call)[0]()
    except InputError as refusal:
        return [{**columns, "backend": name, "case": TIMED, "fault": f"{REFUSED}{refusal}"}]
    replays = Replays(call, draw)
    group = _entered(cores, call, columns, shape, replays, order, run)
    draws = 0 if job.timed_only else job.settings.draws
    rows = [row for part in range(draws) for row in _unseen(core, call, group, columns, part, run)]
    fill(call, draw)
    rows += _timed(group, columns, order, run)
    fault = replays.changed()
    return rows + _judged(group, columns, replays, order, fault, run)


def _entered(
    cores: Mapping[str, Core],
    call: CoreCall,
    columns: Row,
    shape: CoreShape,
    replays: Replays,
    order: random.Random,
    run: Run,
) -> dict[str, Subject]:
    """All that is timed on a shape, ready: the core twice, the composed core, and dense attention that takes it."""
    q, k, v = call.q, call.k[SEL], call.v[SEL]
    refused = dense.able(run.rivals, q, k, v)
    run.left_out.extend(LeftOut(name=f"{DENSE}{name}", shape=str(shape), reason=why) for name, why in refused.items())
    runs: dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]] = {}
    name = run.job.backend
    for each, core in {**cores, f"{AGAIN}{name}": cores[name]}.items():
        runs[each] = bound(each, core, call)
    for each, kernel in run.rivals.items():
        if each not in refused:
            runs[f"{DENSE}{each}"] = partial(kernel, q, k, v), call.block_indices
    tokens = {True: shape.context, False: core_tokens(shape)}
    row_bytes = shape.batch * shape.groups * (shape.head_dim + shape.value_dim) * ITEM_BYTES[shape.dtype]
    return {
        each: prepare(
            {**columns, "backend": each, "floor_bytes": tokens[each.startswith(DENSE)] * row_bytes},
            *runs[each],
            replays,
            run.timer,
        )
        for each in order.sample(list(runs), len(runs))  # where a graph's memory lies moves its time
    }


def core_tokens(shape: CoreShape) -> int:
    """Tokens of K and V that a core must read of a full row: compressed, selected and of the window."""
    sizes, S = sizes_of(shape), shape.context
    blocks = sizes.num_blocks(S)
    selected = min(sizes.sel_count, blocks) * sizes.sel_block - (blocks * sizes.sel_block - S)
    return sizes.num_compressed(S) + selected + min(sizes.window, S)


def _unseen(core: Core, call: CoreCall, group: Mapping[str, Subject], columns: Row, part: int, run: Run) -> list[Row]:
    """Replay the captured call on inputs that it has never seen, written into the tensors that it was made for."""
    name, seed = run.job.backend, int(str(columns["seed"])) + 1 + part
    keys = KEYS[(KEYS.index(str(columns["keys"])) + 1 + part) % len(KEYS)]
    draw = Draw(keys, seed, unseen_lengths(columns, seed, part + run.job.process * run.job.settings.draws))
    poisoned = fill_unseen(call, draw)
    first, second = group[name].replay(), group[name].replay()
    eager, blocks = bound(name, core, call)
    again = eager(), blocks
    fault = changed(call, draw, poisoned)
    found = judge(call, *first)
    fault = fault or found.fault or ("two replays on the same inputs differ" if differ(first, second) else None)
    fault = fault or ("a replay and a call on the same inputs differ" if differ(again, first) else None)
    right = judge(call, *group[COMPOSED].replay())
    row = {**columns, "case": UNSEEN, "keys": keys, "seed": seed}
    return [
        {
            **row,
            "backend": name,
            "error": found.error,
            "composed_error": right.error,
            "fault": fault,
            "rows": found.rows,
            "clear": found.clear,
        },
        {**row, "backend": COMPOSED, "error": right.error, "composed_error": right.error, "fault": right.fault},
    ]


def unseen_lengths(columns: Row, seed: int, number: int) -> tuple[int, ...]:
    """Lengths for a draw: borders in turn, by its number, and random ones; none is longer than the caches."""
    S, l, n, size = (int(str(columns[key])) for key in ("context", "cmp_block", "sel_count", "sel_block"))
    edges = (S - 1, l - 1, n * size - 1, S, 1, size + 1, 0, l)
    batch, drawn = int(str(columns["batch"])), random.Random(seed)
    some = [min(S, edges[(number + place) % len(edges)]) for place in range((batch + 1) // 2)]
    return (*some, *(drawn.randint(1, S) for _ in range(batch - len(some))))


def _timed(group: Mapping[str, Subject], columns: Row, order: random.Random, run: Run) -> list[Row]:
    """Time all in randomised blocks; on a CPU the same calls are made, and no time is recorded."""
    subjects: list[Candidate] = list(group.values())
    if run.timer is None:
        for subject in order.sample(subjects, len(subjects)):
            subject.time(CPU_CALLS)
        return []
    timer, iters = run.timer, run.job.settings.iters
    empty = timer.capture_empty(WARMUP)
    nothing = Candidate({**columns, "backend": EMPTY}, partial(timer.time, lambda: None, empty.graph.replay, True))
    groups = [[nothing], *run.control.groups("backend", columns), subjects]
    with run.turn:
        return interleave(groups, iters, BLOCKS, order, run.sampler, timer, run.clock)


def _judged(
    group: Mapping[str, Subject], columns: Row, replays: Replays, order: random.Random, fault: str | None, run: Run
) -> list[Row]:
    """One row for all that the timed calls of each gave; an input that was changed is the core's fault."""
    call, name, found = replays.call, run.job.backend, dict[str, Judged]()
    for each, subject in group.items():
        every = range(len(call.q))
        worst = Judged(0.0, None)
        for kept in subject.kept:
            replays.apply(kept.replay)
            sequences = (
                every if kept is subject.kept[-1] and each == name else order.sample(every, min(JUDGED, len(every)))
            )
            if each.startswith(DENSE):
                one = judge_dense(call, kept.output, list(sequences)[:1])
            else:
                one = judge(call, kept.output, kept.blocks, sequences)
            worst = Judged(max(worst.error, one.error), one.fault, worst.rows + one.rows, worst.clear + one.clear)
            if one.fault is not None:
                worst = Judged(torch.nan, f"timed replay {kept.replay}: {one.fault}")
                break
        found[each] = worst
    again = found.pop(f"{AGAIN}{name}")
    mine = found[name]
    both = fault or mine.fault or again.fault
    found[name] = Judged(max(mine.error, again.error), both, mine.rows + again.rows, mine.clear + again.clear)
    return [
        {
            **group[each].columns,
            "case": TIMED,
            "error": worst.error,
            "composed_error": found[COMPOSED].error,
            "fault": worst.fault,
            "judged": len(group[each].kept),
            **({"rows": worst.rows, "clear": worst.clear} if each == name else {}),
        }
        for each, worst in found.items()
    ]
