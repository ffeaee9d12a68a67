"""Memory around what a captured core writes, which is looked at after its replays: in these no Python of it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from bench.core.test_replicate import SMALL
from standins import CPU, ON_CPU, Replay, Timer
from wrong_cores import behind
from wrong_cores_kept import RIGHT

from nsa.bench.apart import burst
from nsa.bench.core import subject
from nsa.bench.core.inputs import Draw, allocate, fill
from nsa.bench.core.job import Job
from nsa.bench.core.remote import RemoteCore
from nsa.bench.core.replays import Replays
from nsa.bench.core.replicate import here
from nsa.bench.method.timing import Captured
from nsa.kernels.contract import Backend
from nsa.kernels.core import Core
from nsa.kernels.failures import BackendBroken
from nsa.records.grids import core_grid

if TYPE_CHECKING:
    from nsa.bench.method.timing import CudaTimer

WHEN = ("replayed", "timed", "in a burst", "in captured calls of a burst")


class Graphs:
    """What runs on a GPU without Python: which calls are recorded or replayed now, and what the test does."""

    replaying = False
    of_steps = False  # whether it is calls on a query for each that are replayed
    doing = ""


class Recorded(Replay):
    """A captured graph: its replays run the call again, and nothing that Python would look at."""

    def replay(self) -> None:
        Graphs.replaying, Graphs.of_steps = True, "Steps" in str(self.run)
        super().replay()
        Graphs.replaying = False


class Recording(Timer):
    """A timer whose graphs are these."""

    def capture(self, prepare: Callable[[], None], run: Callable[[], torch.Tensor], warmup: int) -> Captured:
        run()
        Graphs.replaying = True
        graph: Any = Recorded(run)
        Graphs.replaying = False
        return Captured(graph, graph.output)


@pytest.fixture(autouse=True)
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this CPU a graph's replays look at nothing, as on a GPU; bursts are short."""
    Graphs.replaying, Graphs.doing = False, ""
    monkeypatch.setattr("nsa.bench.apart.server.CudaTimer", Recording)
    monkeypatch.setattr(subject, "capturing", lambda out: Graphs.replaying)
    monkeypatch.setattr(burst, "MOST_REPLAYS", 8)
    monkeypatch.setattr(burst, "MOST_QUERIES", 4)


def work(core: Core) -> None:
    """What a core check does with a captured core, in turn."""
    shape, timer = core_grid(SMALL, "cpu")[0], Recording()
    job, clock = Job("mine", SMALL, ON_CPU, 0), cast("CudaTimer", timer)
    remote = RemoteCore(here(job, lambda: Backend("mine", core=core), CPU, True), CPU, 1 << 20, True)
    call, draw = allocate(shape, CPU), Draw("noise", 3, (shape.context,) * shape.batch)
    fill(call, draw)
    with remote.bound(call) as mine:
        replays = Replays(call, draw)
        burst_of = ("mine", replays, 1e6, clock)
        on = mine.subject({"backend": "mine"}, replays)
        for name, step in zip(WHEN, (on.replay, partial(on.time, 2), partial(mine.bursts, *burst_of)), strict=False):
            Graphs.doing = name
            step()


@pytest.mark.parametrize("name", ["out", "block_indices"])
@pytest.mark.parametrize("when", WHEN)
def test_a_core_that_writes_behind_only_in_replays_fails(name: str, when: str) -> None:
    """At once, or where the judge clocks it, once its clock has stopped."""
    wrong = behind(name)

    def core(*given: Any) -> torch.Tensor:
        now = when == ("in captured calls of a burst" if Graphs.of_steps else Graphs.doing)
        result: torch.Tensor = (wrong if Graphs.replaying and now else RIGHT)(*given)
        return result

    with pytest.raises(BackendBroken, match="mine: it wrote before or behind its"):
        work(core)


def test_a_right_core_does_all_of_it() -> None:
    """Nothing is said of one that keeps to its own memory."""
    work(RIGHT)
    assert Graphs.of_steps and Graphs.doing == "in a burst"
