"""What is timed on one call: a core or a kernel of dense attention, captured, with an output that only it writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nsa.bench.core.inputs import POISON, CoreCall
from nsa.bench.core.replays import Replays
from nsa.bench.method.failures import is_plain
from nsa.bench.method.interleave import Candidate
from nsa.bench.method.timing import CudaTimer
from nsa.kernels.core import SEL, Core
from nsa.kernels.failures import BackendBroken, kernel_at_work
from nsa.records.words import Row

WARMUP = 3  # calls before a capture
FENCE, FENCED = 4096, 77  # numbers before and behind what a core writes, and what they are before and after
Gave = tuple[torch.Tensor, torch.Tensor]  # an output and the chosen blocks; `blocks` of dense attention are POISON


@dataclass(frozen=True)
class Prepared:
    """A call that is ready to be timed.

    Attributes:
        run: what is timed, bare.
        replay: once, untimed, into poisoned memory; gives where its output and blocks lie.
        time: repetitions -> nanoseconds of each; none without a timer.
    """

    run: Callable[[], object]
    replay: Callable[[], Gave]
    time: Callable[[int], list[int]]


@dataclass(frozen=True)
class Kept:
    """What one timed replay gave, copied in the stream."""

    replay: int
    output: torch.Tensor
    blocks: torch.Tensor


@dataclass(frozen=True)
class Subject(Candidate):
    """One that is timed.

    Attributes:
        replay: one untimed call on the inputs as they are, into poisoned memory; gives copies of its output and blocks.
        kept: what its timed calls gave.
    """

    replay: Callable[[], Gave]
    kept: list[Kept]


class Bound(NamedTuple):
    """A call of a core into memory of its own.

    Attributes:
        run: the call; it gives its output.
        blocks: that it writes or reads.
        look: raises BackendBroken where something was written around the output or the blocks.
    """

    run: Callable[[], torch.Tensor]
    blocks: torch.Tensor
    look: Callable[[], None]


def bound(name: str, core: Core, call: CoreCall) -> Bound:
    """Bind a core to memory of its own.

    The call raises BackendBroken where the core returned another tensor, or where it wrote around what is its own. One
    that is being captured writes nothing yet: whoever replays it must look.
    """
    blocks, beside_blocks = _fenced(call.block_indices, call.block_indices.shape)
    blocks.copy_(call.block_indices)  # POISON, or those that are given where the core does not route
    out, beside_out = _fenced(call.q, (*call.q.shape[:3], call.v[SEL].shape[3]))
    out.fill_(torch.nan)
    mine = call._replace(block_indices=blocks)

    def run() -> torch.Tensor:
        with kernel_at_work(name):
            given: object = core(*mine, out)
        if given is not out:
            raise BackendBroken(f"{name}: it returned another tensor than the `out` that it was given")
        if not capturing(out):
            look()
        return out

    def look() -> None:
        for what, tensor, beside in (("output", out, beside_out), ("block indices", blocks, beside_blocks)):
            if any(bool((each != FENCED).any()) for each in beside):
                raise BackendBroken(f"{name}: it wrote before or behind its {what} of shape {tuple(tensor.shape)}")

    return Bound(run, blocks, look)


def capturing(out: torch.Tensor) -> bool:
    """Whether calls that write this are recorded now, and not run."""
    return out.is_cuda and torch.cuda.is_current_stream_capturing()


def _fenced(like: torch.Tensor, shape: Sequence[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """A contiguous tensor of another's dtype and device, and the memory before and behind it, which is FENCED."""
    whole = like.new_full((2 * FENCE + math.prod(shape),), FENCED)
    return whole[FENCE:-FENCE].view(*shape), (whole[:FENCE], whole[-FENCE:])


def prepare(
    name: str,
    run: Callable[[], torch.Tensor],
    blocks: torch.Tensor,
    refresh: Callable[[], None],
    keep: Callable[[torch.Tensor, torch.Tensor], None],
    timer: CudaTimer | None,
) -> Prepared:
    """Make a call ready to be timed: a captured graph with a timer; the call itself, and no time, without one.

    Args:
        name: of the backend.
        run: the call; it gives its output.
        blocks: that it writes.
        refresh: changes the inputs for the next timed replay.
        keep: takes what a timed replay gave, at once; the copy that it makes is in the stream.
        timer: on CUDA.
    """
    if timer is None:
        launch = run
    else:
        with kernel_at_work(name):
            captured = timer.capture(lambda: None, run, WARMUP)

        def launch() -> torch.Tensor:
            captured.graph.replay()
            return captured.output

    last: list[torch.Tensor] = [launch()]
    if not is_plain(last[0]):
        raise BackendBroken(f"{name}: it returned {type(last[0]).__name__}, expected a tensor")

    def poison() -> None:
        last[0].fill_(torch.nan)
        blocks.fill_(POISON)

    def again() -> None:
        last[0] = launch()

    def replay() -> Gave:
        poison()
        again()
        return last[0], blocks

    def before() -> None:
        refresh()
        poison()

    def after() -> None:
        keep(last[0], blocks)

    def time(repetitions: int) -> list[int]:
        if timer is not None:
            return timer.time(before, again, True, repetitions, after)
        for _ in range(repetitions):
            before()
            again()
            after()
        return []

    return Prepared(again, replay, time)


def subject(
    columns: Row, run: Callable[[], torch.Tensor], blocks: torch.Tensor, replays: Replays, timer: CudaTimer | None
) -> Subject:
    """Make a call of this process ready to be timed on some replays."""
    kept: list[Kept] = []

    def keep(output: torch.Tensor, chosen: torch.Tensor) -> None:
        kept.append(Kept(replays.count, output.clone(), chosen.clone()))
        replays.count += 1

    made = prepare(str(columns["backend"]), run, blocks, replays.refresh, keep, timer)

    def replay() -> Gave:
        output, chosen = made.replay()
        return output.clone(), chosen.clone()

    return Subject(columns, made.time, replay, kept)
