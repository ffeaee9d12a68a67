"""Candidates timed in turns, in randomised blocks, with the GPU's state beside each repetition."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from nsa.bench.method.clocks import Clock
from nsa.bench.method.timing import CudaTimer
from nsa.machine.nvml import Sampler
from nsa.records.facts import Replicate
from nsa.records.words import Row


@dataclass(frozen=True)
class Candidate:
    """One thing that is timed.

    Attributes:
        columns: what names it in every row.
        time: repetitions -> nanoseconds of each.
        early: in the first block its group comes before those of the others: nothing else has been timed by then.
    """

    columns: Row
    time: Callable[[int], list[int]]
    early: bool = field(default=False, kw_only=True)


Group = Sequence[Candidate]  # candidates that take turns on the same inputs


def interleave(
    groups: Sequence[Group],
    iters: int,
    blocks: int,
    order: random.Random,
    sampler: Sampler,
    timer: CudaTimer | None = None,
    clock: Clock | None = None,
    alternating: bool = False,
) -> list[Row]:
    """Time every candidate of every group so often: a row for each repetition, as they were made; none is dropped.

    In each block the groups follow each other in random order, but for the early ones in the first, and in each group
    its candidates do, so that drift falls on all of them alike. The GPU's state is read after each group.

    Args:
        groups: what is timed.
        iters: repetitions of each candidate.
        blocks: that these are spread over, at most.
        order: the source of every random choice.
        sampler: of the GPU.
        timer: on CUDA; it brings the device into the state in which everything is timed.
        clock: on CUDA; each block waits for it.
        alternating: the groups run in different processes and are timed on the same call: the device is brought into
            that state before each of them, and their places in a block are counted together.
    """
    if timer is not None:
        timer.settle()
    rows: list[Row] = []
    blocks = min(blocks, iters)
    for block in range(blocks):
        if clock is not None:
            clock.wait()
        repetitions = iters // blocks + (block < iters % blocks)
        before = 0
        taken = order.sample(list(groups), len(groups))
        if block == 0:
            taken.sort(key=lambda group: not any(one.early for one in group))
        for group in taken:
            if timer is not None and alternating:
                timer.settle()
            turns = enumerate(order.sample(group, len(group)), before)
            times = [(place, one, one.time(repetitions)) for place, one in turns]
            before += len(group) if alternating else 0
            state = sampler.sample()
            rows += [
                {**one.columns, "block": block, "order": place, "value_ns": value, **state}
                for place, one, values in times
                for value in values
            ]
    return rows


def replicate_facts(process: int, duration_s: float, rows: Iterable[Row], clock: Clock | None = None) -> Replicate:
    """What one process's rows, and the clock that its blocks waited for, say of the GPU's state while it timed."""
    clocks, bits = (
        [value for row in rows if isinstance(value := row.get(column), int)]
        for column in ("sm_clock_mhz", "throttle_bits")
    )
    seen = 0
    for each in bits:
        seen |= each
    return Replicate(
        process=process,
        duration_s=round(duration_s, 3),
        sm_clock_min_mhz=min(clocks, default=None),
        sm_clock_max_mhz=max(clocks, default=None),
        throttle_bits=seen if bits else None,
        sm_clock_start_mhz=clock.start_mhz if clock else None,
        waited_clock_s=round(clock.waited_s, 3) if clock else 0.0,
    )
