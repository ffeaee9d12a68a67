"""Everything that a core check does on one shape: capture, unseen inputs, timing, and what was given, judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median

import torch

from nsa.attention.composition import compose
from nsa.bench.apart.burst import Clocked
from nsa.bench.core import dense
from nsa.bench.core.corners import TAKES_THE_GRID, fill_unseen
from nsa.bench.core.inputs import Draw, allocate, fill, sizes_of
from nsa.bench.core.job import Job
from nsa.bench.core.judge import Judged, differ, judge, judge_dense
from nsa.bench.core.remote import BoundCore, RemoteCore
from nsa.bench.core.replays import Replays
from nsa.bench.core.subject import WARMUP, Gave, Subject, bound, subject
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.interleave import Candidate, interleave
from nsa.bench.method.timing import CudaTimer
from nsa.bench.workers import Turn
from nsa.errors import InputError
from nsa.kernels.core import SEL
from nsa.kernels.sdpa.packed import gather
from nsa.machine.nvml import Sampler
from nsa.records.facts import CoreBurst, LeftOut
from nsa.records.shapes import CoreShape
from nsa.records.words import AGAIN, COMPOSED, DENSE, EMPTY, ITEM_BYTES, KEYS, REFUSED, TIMED, UNSEEN, Row, Scalar

BLOCKS = 5  # randomised blocks that the repetitions are spread over
CPU_CALLS = 3  # of each core on a CPU, which records no time
JUDGED = 2  # sequences of a timed output that are judged, drawn after the replays; all of the core's last one
SEEDS = 1 << 24  # draws that one process of one seed keeps for itself


@dataclass(frozen=True)
class Run:
    """What the steps of a replicate share."""

    job: Job
    device: torch.device
    core: RemoteCore
    timer: CudaTimer | None
    turn: Turn
    sampler: Sampler
    clock: Clock | None
    control: Control
    rivals: Mapping[str, dense.Dense]
    left_out: list[LeftOut]
    bursts: list[CoreBurst]


@dataclass(frozen=True)
class On:
    """One shape: the core on its inputs, all that is timed by name, the replays, and what names it in every row."""

    shape: CoreShape
    mine: BoundCore
    group: Mapping[str, Subject]
    replays: Replays
    columns: Row
    order: random.Random


def shape_rows(shape: CoreShape, place: int, run: Run) -> list[Row]:
    """The rows of one shape, of schemas.CORE.

    What is timed is captured while all sequences are short: it must serve every length that the caches have room for.
    """
    job, name = run.job, run.job.backend
    seed = job.secret + SEEDS * (job.seed + 1) + (place << 14) + (job.process << 20)
    order, keys = random.Random(seed), KEYS[(place + job.process) % len(KEYS)]
    call, draw = allocate(shape, run.device), Draw(keys, seed, (shape.context,) * shape.batch)
    fill(call, draw)
    call.seq_lens.copy_(torch.tensor([order.randint(1, max(1, shape.context // 2)) for _ in range(shape.batch)]))
    columns: Row = {**asdict(shape), "keys": keys, "seed": seed}
    with run.core.bound(call) as mine:
        try:
            mine.once()
        except InputError as refusal:
            return [{**columns, "backend": name, "case": TIMED, "fault": f"{REFUSED}{refusal}"}]
        replays = Replays(call, draw)
        on = On(shape, mine, _entered(mine, shape, replays, columns, order, run), replays, columns, order)
        draws = 0 if job.timed_only else job.settings.draws
        rows = [row for part in range(draws) for row in _unseen(on, part, run)]
        fill(call, draw)
        mine.give()
        times, bursts, fault = _timed(on, run)
    return [*rows, *times, *_judged(on, bursts, fault, run)]


def _entered(
    mine: BoundCore, shape: CoreShape, replays: Replays, columns: Row, order: random.Random, run: Run
) -> dict[str, Subject]:
    """All that is timed on a shape, ready: the core twice, the composed core, and dense attention that takes it."""
    call = replays.call
    q, k, v = call.q, call.k[SEL], call.v[SEL]
    refused = dense.able(run.rivals, q, k, v)
    run.left_out.extend(LeftOut(name=f"{DENSE}{name}", shape=str(shape), reason=why) for name, why in refused.items())
    runs: dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]] = {
        COMPOSED: bound(COMPOSED, compose(gather), call)[:2],
        **{
            f"{DENSE}{each}": (partial(kernel, q, k, v), call.block_indices)
            for each, kernel in run.rivals.items()
            if each not in refused
        },
    }
    names = [run.job.backend, f"{AGAIN}{run.job.backend}", *runs]
    tokens = {True: shape.context, False: core_tokens(shape)}
    row_bytes = shape.batch * shape.groups * (shape.head_dim + shape.value_dim) * ITEM_BYTES[shape.dtype]
    group: dict[str, Subject] = {}
    for each in order.sample(names, len(names)):  # where a graph's memory lies moves its time
        own: Row = {**columns, "backend": each, "floor_bytes": tokens[each.startswith(DENSE)] * row_bytes}
        group[each] = subject(own, *runs[each], replays, run.timer) if each in runs else mine.subject(own, replays)
    return group


def core_tokens(shape: CoreShape) -> int:
    """Tokens of K and V that a core must read of a full row: compressed, selected and of the window."""
    sizes, S = sizes_of(shape), shape.context
    blocks = sizes.num_blocks(S)
    selected = min(sizes.sel_count, blocks) * sizes.sel_block - (blocks * sizes.sel_block - S)
    return sizes.num_compressed(S) + selected + min(sizes.window, S)


def _unseen(on: On, part: int, run: Run) -> list[Row]:
    """Replay the captured call on inputs that it has never seen, written into the tensors that it was made for."""
    name, seed, call = run.job.backend, int(str(on.columns["seed"])) + 1 + part, on.replays.call
    keys = KEYS[(KEYS.index(str(on.columns["keys"])) + 1 + part) % len(KEYS)]
    fill_unseen(
        call, Draw(keys, seed, unseen_lengths(on.columns, seed, part + run.job.process * run.job.settings.draws))
    )
    on.mine.give()
    row: dict[str, Scalar] = {**on.columns, "case": UNSEEN, "keys": keys, "seed": seed}
    try:
        first, second = on.group[name].replay(), on.group[name].replay()
        again = on.mine.once()
    except InputError as refusal:
        return [{**row, "backend": name, "fault": f"{TAKES_THE_GRID}{refusal}"}]
    found = judge(call, *first)
    fault = on.mine.changed() or found.fault
    fault = fault or ("two replays on the same inputs differ" if differ(first, second) else None)
    fault = fault or ("a replay and a call on the same inputs differ" if differ(again, first) else None)
    right = judge(call, *on.group[COMPOSED].replay())
    row["composed_error"] = right.error
    blocks = {"rows": found.rows, "clear": found.clear}
    return [
        {**row, "backend": name, "error": found.error, "fault": fault, **blocks},
        {**row, "backend": COMPOSED, "error": right.error, "fault": right.fault},
    ]


def unseen_lengths(columns: Row, seed: int, number: int) -> tuple[int, ...]:
    """Lengths for a draw: borders in turn, by its number, and random ones; none is longer than the caches."""
    names = ("context", "cmp_block", "sel_count", "sel_block", "window")
    S, l, n, size, w = (int(str(columns[key])) for key in names)
    edges = (S - 1, l - 1, n * size - 1, S, 1, size + 1, 0, l, w + 1, n * size, w, 2 * size + 1)
    batch, drawn = int(str(columns["batch"])), random.Random(seed)
    some = [min(S, edges[(number + place) % len(edges)]) for place in range((batch + 1) // 2)]
    return (*some, *(drawn.randint(1, S) for _ in range(batch - len(some))))


def _timed(on: On, run: Run) -> tuple[list[Row], list[tuple[torch.Tensor, Gave]], str | None]:
    """Time all in randomised blocks: the rows, queries and outputs of bursts, and which input the core has changed.

    What runs here and what runs in the candidate's process take turns. On a CPU the same calls are made, and no time is
    recorded. Afterwards the judge's call has the inputs of the bursts, but their queries.
    """
    name, columns = run.job.backend, on.columns
    mine = [each for called, each in on.group.items() if called.removeprefix(AGAIN) == name]
    others = [each for called, each in on.group.items() if called.removeprefix(AGAIN) != name]
    timer, rows, bursts = run.timer, list[Row](), list[tuple[torch.Tensor, Gave]]()
    if timer is None:
        for each in on.order.sample([*mine, *others], len(on.group)):
            each.time(CPU_CALLS)
        on.replays.apply(on.mine.last)
        return [], [], on.mine.changed()
    empty = timer.capture_empty(WARMUP)
    nothing = Candidate({**columns, "backend": EMPTY}, partial(timer.time, lambda: None, empty.graph.replay, True))
    groups = [[nothing], *run.control.groups("backend", columns), mine, others]
    with run.turn:
        rows = interleave(
            groups, run.job.settings.iters, BLOCKS, on.order, run.sampler, timer, run.clock, alternating=True
        )
        events_ns = median(float(str(row["value_ns"])) for row in rows if row["backend"] == name)
        clocked = [] if run.job.timed_only else on.mine.bursts(name, on.replays, events_ns, timer)
    on.replays.apply(on.mine.last)
    for burst in clocked:
        output, blocks = burst.outputs
        bursts.append((burst.q, (output, blocks)))
        run.bursts.append(fact(burst, run.job.process, on.shape))
    if clocked:
        on.replays.call.q.copy_(clocked[-1].last_q)
    return rows, bursts, on.mine.changed()


def fact(burst: Clocked, process: int, shape: CoreShape) -> CoreBurst:
    """What a record keeps of a burst."""
    return CoreBurst(process=process, shape=shape, replays=burst.replays, queries=burst.queries, **burst.times)


def _judged(on: On, bursts: list[tuple[torch.Tensor, Gave]], fault: str | None, run: Run) -> list[Row]:
    """One row for all that the timed calls of each gave; an input that was changed is the core's fault."""
    name = run.job.backend
    clocked = [_burst(on, q, gave) for q, gave in bursts]  # first: K and V are still as the bursts had them
    found = {each: _worst(on, each) for each in on.group}
    for more in (*clocked, found.pop(f"{AGAIN}{name}")):
        found[name] = _both(found[name], more)
    found[name] = found[name]._replace(fault=fault or found[name].fault)
    return [
        {
            **on.group[each].columns,
            "case": TIMED,
            "error": worst.error,
            "composed_error": found[COMPOSED].error,
            "fault": worst.fault,
            "judged": len(on.group[each].kept),
            **({"rows": worst.rows, "clear": worst.clear} if each == name else {}),
        }
        for each, worst in found.items()
    ]


def _burst(on: On, q: torch.Tensor, gave: Gave) -> Judged:
    """What one replay of a burst gave, in some sequences."""
    on.replays.call.q.copy_(q)
    one = judge(on.replays.call, *gave, on.order.sample(range(len(q)), min(JUDGED, len(q))))
    return one if one.fault is None else Judged(torch.nan, f"a replay without a pause: {one.fault}")


def _worst(on: On, each: str) -> Judged:
    """What the timed calls of one gave: the last one in every sequence, the others in some."""
    call, kept, worst = on.replays.call, on.group[each].kept, Judged(0.0, None)
    every = range(len(call.q))
    for one in kept:
        on.replays.apply(one.replay)
        some = on.order.sample(every, min(JUDGED, len(every)))
        if each.startswith(DENSE):
            said = judge_dense(call, one.output, some[:1])
        else:
            said = judge(call, one.output, one.blocks, every if one is kept[-1] and each != COMPOSED else some)
        if said.fault is not None:
            return Judged(torch.nan, f"timed replay {one.replay}: {said.fault}")
        worst = _both(worst, said)
    return worst


def _both(one: Judged, other: Judged) -> Judged:
    """What is said of two outputs together."""
    rows, clear = one.rows + other.rows, one.clear + other.clear
    return Judged(max(one.error, other.error), one.fault or other.fault, rows, clear)
