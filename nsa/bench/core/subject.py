"""What is timed on one call: a core or a kernel of dense attention, captured, with an output that only it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nsa.bench.core.inputs import POISON, CoreCall, Replays
from nsa.bench.method.failures import is_plain
from nsa.bench.method.interleave import Candidate
from nsa.bench.method.timing import CudaTimer
from nsa.kernels.core import SEL, Core
from nsa.kernels.failures import BackendBroken, kernel_at_work
from nsa.records.words import Row

WARMUP = 3  # calls before a capture


@dataclass(frozen=True)
class Kept:
    """What one timed replay gave, copied in the stream; `blocks` are empty of dense attention."""

    replay: int
    output: torch.Tensor
    blocks: torch.Tensor


@dataclass(frozen=True)
class Subject(Candidate):
    """One that is timed.

    Attributes:
        replay: one untimed call on the inputs as they are, into poisoned memory; gives its output and blocks.
        kept: what its timed calls gave.
    """

    replay: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    kept: list[Kept]


def bound(name: str, core: Core, call: CoreCall) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """A call of a core into memory of its own, which is its output, and the blocks that it writes."""
    blocks = torch.full_like(call.block_indices, POISON)
    out = call.q.new_full((*call.q.shape[:3], call.v[SEL].shape[3]), torch.nan)
    mine = call._replace(block_indices=blocks)

    def run() -> torch.Tensor:
        with kernel_at_work(name):
            given: object = core(*mine, out)
        if given is not out:
            raise BackendBroken(f"{name}: it returned another tensor than the `out` that it was given")
        return out

    return run, blocks


def prepare(
    columns: Row,
    run: Callable[[], torch.Tensor],
    blocks: torch.Tensor,
    replays: Replays,
    timer: CudaTimer | None,
) -> Subject:
    """Make a call ready to be timed: a captured graph with a timer; the call itself, and no time, without one."""
    name, kept = str(columns["backend"]), list[Kept]()
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

    def replay() -> tuple[torch.Tensor, torch.Tensor]:
        poison()
        last[0] = launch()
        return last[0].clone(), blocks.clone()

    def before() -> None:
        replays.refresh()
        poison()

    def after() -> None:
        kept.append(Kept(replays.count, last[0].clone(), blocks.clone()))
        replays.count += 1

    def timed() -> None:
        last[0] = launch()

    def time(repetitions: int) -> list[int]:
        if timer is not None:
            return timer.time(before, timed, True, repetitions, after)
        for _ in range(repetitions):
            before()
            timed()
            after()
        return []

    return Subject(columns, time, replay, kept)
