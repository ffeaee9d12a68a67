"""The control: fixed work of the harness's own, timed in every block beside what is measured (docs/timing.md).

No backend and no setting changes it, so that a time of it that moves is the machine's: between the processes of a
record, between records, and between a run and the accepted one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from nsa.bench.method.interleave import Candidate, Group
from nsa.bench.method.timing import CudaTimer
from nsa.records.words import STREAM, TRAIN, Row

LAUNCHES = 18  # small ones, each of which needs the one before: what a step without heavy arithmetic is made of
SHAPE = (128, 1024)  # of what each launch works on
REPETITIONS = 3  # of each workload in a block, however often the others are timed
WARMUP = 3  # calls before a capture


class Control:
    """A train of small launches and a stream of bytes, each a captured graph that is timed cold.

    In the first block both are timed before anything else: what else runs may slow the train down (docs/timing.md).

    Args:
        timer: on CUDA; None on a CPU, where there is no control: its times decide nothing.
    """

    def __init__(self, timer: CudaTimer | None) -> None:
        self._timer = timer
        if timer is not None:
            start = torch.linspace(-1, 1, SHAPE[0] * SHAPE[1], device=timer.device).reshape(SHAPE)
            work: dict[str, Callable[[], torch.Tensor]] = {TRAIN: partial(_train, start), STREAM: timer.stream}
            self._graphs = {name: timer.capture(_nothing, run, WARMUP) for name, run in work.items()}

    def groups(self, key: str, columns: Row) -> list[Group]:
        """The control as a group that takes its turn in a block; none on a CPU.

        Args:
            key: the column that names a workload.
            columns: what else its rows have.
        """
        timer = self._timer
        if timer is None:
            return []

        def time(name: str, _: int) -> list[int]:
            return timer.time(_nothing, self._graphs[name].graph.replay, True, REPETITIONS)

        return [[Candidate({**columns, key: name}, partial(time, name), early=True) for name in self._graphs]]


def _train(start: torch.Tensor) -> torch.Tensor:
    values = start
    for _ in range(LAUNCHES):
        values = torch.softmax(values, -1)
    return values


def _nothing() -> None:
    pass
