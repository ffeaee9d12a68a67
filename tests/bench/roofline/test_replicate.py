"""One replicate of the roofline: every kernel on every shape in turns, on one cache for each size, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from nsa.bench.method.timing import Captured
from nsa.bench.roofline import replicate as roofline_race
from nsa.bench.roofline.replicate import Job, Outcome, replicate, shapes
from nsa.config import Flags, RooflineSettings
from nsa.errors import InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.machine.host import Host, Machine

SMALL = RooflineSettings(
    rows=(4, 8),
    heads_per_group=(2, 4),
    head_dim=(32,),
    sel_count=(2, 3),
    sel_block=16,
    context=60,
    dtype="float32",
    iters=4,
    processes=2,
)
ON_CPU = Host("cpu", "a CPU", None, Machine(None), Flags())


class Replay:
    """A captured graph without a GPU: it runs the call again, into the same tensor."""

    def __init__(self, run: Callable[[], torch.Tensor]) -> None:
        self.run, self.output = run, run()

    def replay(self) -> None:
        self.output.copy_(self.run())


class FakeTimer:
    """A CudaTimer on a CPU whose times say in which order they were taken."""

    def __init__(self, device: torch.device) -> None:
        self.calls = 0

    def capture(self, prepare: Callable[[], None], run: Callable[[], torch.Tensor], warmup: int) -> Captured:
        graph: Any = Replay(run)
        return Captured(graph, graph.output)

    def capture_empty(self, warmup: int) -> Captured:
        return self.capture(lambda: None, partial(torch.zeros, 1), warmup)

    def time(self, restore: Callable[[], None], replay: Callable[[], None], cold: bool, repetitions: int) -> list[int]:
        assert cold and repetitions == 1
        restore()
        replay()
        self.calls += 1
        return [self.calls]


def fussy(*arguments: Any) -> torch.Tensor:
    """A kernel that refuses h = 4 and is wrong otherwise."""
    if arguments[0].shape[2] == 4:
        raise InputError("q: got h = 4 heads a group, expected at most 2")
    return gather(*arguments) * 1.01


KERNELS = {"sdpa": gather, "cuda": index_select, "triton": fussy}


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in a GPU's place, with three backends."""
    monkeypatch.setattr(roofline_race, "CudaTimer", FakeTimer)
    monkeypatch.setattr(roofline_race, "copy_bandwidth", lambda device: 4e12)
    monkeypatch.setattr(registry, "load", lambda name, machine, flags: Backend(name, KERNELS[name]))


def test_the_shapes_are_those_of_the_table() -> None:
    """Breaks if a shape of the 48 is left out, or a kernel is timed at D ≠ Dv, where no other figure is known."""
    found = shapes(RooflineSettings())
    assert len(set(found)) == 48
    assert {(shape.rows, shape.heads_per_group, shape.sel_count) for shape in found} >= {(4, 4, 8), (1024, 16, 16)}
    assert all(shape.head_dim == shape.value_dim and shape.context == 4096 for shape in found)


def test_everything_is_interleaved_and_judged(simulated: None) -> None:
    """Breaks if one kernel is timed after the other, a shape's turn is always the same, or an output goes unjudged."""
    found = replicate(Job(tuple(KERNELS), SMALL, ON_CPU, 0))
    assert found.error is None and found.bandwidth_bytes_per_s == (4e12, 4e12)
    timed = [row for row in found.rows if row.get("value_ns") is not None]
    assert [row["value_ns"] for row in timed] == list(range(1, len(timed) + 1))  # as they were taken
    able = 8 + 8 + 4  # shapes of sdpa, of cuda, of triton, which refuses half of them
    rounds = [timed[start : start + able + 1] for start in range(0, 4 * (able + 1), able + 1)]
    turns = [
        [(row["backend"], row.get("rows"), row.get("heads_per_group"), row.get("sel_count")) for row in a_round]
        for a_round in rounds
    ]
    for turn in turns:
        assert len(set(turn)) == able + 1  # each once, and the empty graph
        together = sum(one[1:] == other[1:] for one, other in pairwise(turn))
        assert together == able - 8  # the kernels of a shape follow each other
    orders = {tuple(dict.fromkeys(place[1:] for place in turn)) for turn in turns}
    assert len(orders) == 4
    assert len({tuple(place[0] for place in turn if place[1:] == (4, 2, 2)) for turn in turns}) > 1
    assert len(timed) == 4 * (able + 1) + able  # the last calls are timed, too

    judged = [row for row in found.rows if row.get("oracle_error") is not None]
    assert Counter(row["backend"] for row in judged) == {"sdpa": 8, "cuda": 8, "triton": 4}
    assert all(row["fault"] is None for row in judged)
    errors = {name: max(row["oracle_error"] for row in judged if row["backend"] == name) for name in KERNELS}
    assert errors["triton"] == pytest.approx(0.01, rel=0.01) and max(errors["sdpa"], errors["cuda"]) < 1e-5
    refused = [row for row in found.rows if (row.get("fault") or "").startswith("refused: q: got h = 4")]
    assert Counter(row["backend"] for row in refused) == {"triton": 4}
    assert {row["process"] for row in found.rows} == {0}


def test_the_floor_is_of_the_tokens_that_are_selected(simulated: None) -> None:
    """Breaks if the bytes of the floor are those of another shape, or forget that the last block is partial."""
    found = replicate(Job(("sdpa",), SMALL, ON_CPU, 0))
    tokens = {2: 16 + 12, 3: 2 * 16 + 12}  # 60 tokens: the last of the four blocks holds 12
    for row in (row for row in found.rows if row["backend"] == "sdpa"):
        assert row["selected_bytes"] == row["rows"] * tokens[row["sel_count"]] * (32 + 32) * 4


def test_shapes_of_one_size_share_one_cache(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if each of the 48 shapes holds its own K and V: 48 times a gigabyte."""
    seen: list[tuple[int, int]] = []

    def spy(*arguments: Any) -> torch.Tensor:
        seen.append((arguments[0].shape[0], arguments[1].data_ptr()))
        return gather(*arguments)

    monkeypatch.setitem(KERNELS, "cuda", spy)
    replicate(Job(("sdpa", "cuda"), SMALL, ON_CPU, 0))
    assert len(set(seen)) == len(SMALL.rows)


def test_another_process_has_other_inputs_and_another_order(simulated: None) -> None:
    """Breaks if the replicates replicate one draw, so that their interval says nothing."""
    one, other = (replicate(Job(("sdpa", "cuda"), SMALL, ON_CPU, process)).rows for process in (0, 1))
    places = [[(row.get("rows"), row.get("sel_count"), row["backend"]) for row in rows] for rows in (one, other)]
    assert places[0] != places[1]
    assert one[-1]["oracle_error"] != other[-1]["oracle_error"]


def test_a_kernel_that_fails_and_memory_that_is_short_are_told_apart(
    simulated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a run out of memory counts as a broken kernel, or either ends in a traceback."""

    def failing(error: Exception) -> Callable[..., torch.Tensor]:
        def kernel(*_: Any) -> torch.Tensor:
            raise error

        return kernel

    monkeypatch.setitem(KERNELS, "cuda", failing(torch.cuda.OutOfMemoryError("CUDA out of memory.\nmore")))
    assert replicate(Job(("sdpa", "cuda"), SMALL, ON_CPU, 0)) == Outcome(error="CUDA out of memory.")
    monkeypatch.setitem(KERNELS, "cuda", failing(RuntimeError("CUDA error: an illegal memory access\nmore")))
    with pytest.raises(KernelFailed, match=r"^CUDA error: an illegal memory access$"):
        replicate(Job(("sdpa", "cuda"), SMALL, ON_CPU, 0))
