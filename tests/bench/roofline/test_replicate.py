"""One replicate of the roofline: every kernel on every shape in turns, on one cache for each size, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from standins import ON_CUDA, Sampler, Timer

from nsa.bench.method.control import REPETITIONS
from nsa.bench.roofline import replicate as module
from nsa.bench.roofline.job import Job
from nsa.bench.roofline.replicate import replicate
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import RooflineSettings
from nsa.errors import InputError, KernelFailed, NoMemory
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.records.facts import RooflineFacts
from nsa.records.schemas import ROOFLINE
from nsa.records.words import CONTROLS, Row

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
SHAPES = 8


def fussy(*arguments: Any) -> torch.Tensor:
    """A kernel that refuses h = 4 and is wrong otherwise."""
    if arguments[0].shape[2] == 4:
        raise InputError("q: got h = 4 heads a group, expected at most 2")
    return gather(*arguments) * 1.01


KERNELS = {"sdpa": gather, "cuda": index_select, "triton": fussy}
CONTROL = dict.fromkeys(CONTROLS, REPETITIONS)
TIMED = {"empty": 1, "sdpa": SHAPES, "again:sdpa": SHAPES, "cuda": SHAPES, "triton": SHAPES // 2}


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in a GPU's place, with three backends."""
    monkeypatch.setattr(module, "CudaTimer", Timer)
    monkeypatch.setattr(module, "Sampler", Sampler)
    monkeypatch.setattr(module, "bandwidths", lambda device: (4e12, 3.8e12))
    monkeypatch.setattr(
        registry, "load", lambda name, machine, flags: Backend(name, KERNELS[name], notes=lambda: [f"of {name}"])
    )


def ran(*backends: str, process: int = 0) -> Replicated[RooflineFacts]:
    return replicate(Job(backends or tuple(KERNELS), SMALL, ON_CUDA, process), Turn())


def timed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("value_ns") is not None]


def shape_of(row: Row) -> tuple[object, ...]:
    return row.get("rows"), row.get("heads_per_group"), row.get("sel_count")


def test_every_kernel_is_timed_equally_often_in_rounds() -> None:
    """In each round every kernel is timed once on every shape it takes, SDPA twice, the empty graph and the control."""
    rows = timed(ran().rows)
    assert [row["value_ns"] for row in rows] == list(range(1, len(rows) + 1))  # none lost, as they were taken
    in_rounds = [row for row in rows if row.get("block") is not None]
    for number in range(SMALL.iters):
        a_round = [row for row in in_rounds if row["block"] == number]
        assert Counter(row["backend"] for row in a_round) == TIMED | CONTROL
        assert len({(row["backend"], *shape_of(row)) for row in a_round}) == sum(TIMED.values()) + len(CONTROL)
    last = Counter(row["backend"] for row in rows if row.get("block") is None)
    assert last == {name: count for name, count in TIMED.items() if name != "empty"}  # the last calls are timed, too


def test_the_kernels_of_a_shape_take_turns_and_shapes_do_too() -> None:
    """Kernels of one shape follow each other; the order of both is another in each round."""
    rows = [row for row in timed(ran().rows) if row.get("block") is not None and row["backend"] not in CONTROLS]
    rounds = [[row for row in rows if row["block"] == number] for number in range(SMALL.iters)]
    for a_round in rounds:
        together = sum(shape_of(one) == shape_of(other) for one, other in pairwise(a_round))
        assert together == sum(TIMED.values()) - 1 - SHAPES
    assert len({tuple(dict.fromkeys(map(shape_of, a_round))) for a_round in rounds}) == SMALL.iters
    one_shape = {tuple(row["backend"] for row in a_round if shape_of(row) == (4, 2, 2)) for a_round in rounds}
    assert len(one_shape) > 1


def test_every_kernel_is_judged_by_its_last_call() -> None:
    """The output of every kernel on every shape has its errors; the A/A control has none of its own."""
    rows = [row for row in ran().rows if row.get("oracle_error") is not None]
    assert Counter(row["backend"] for row in rows) == {"sdpa": SHAPES, "cuda": SHAPES, "triton": SHAPES // 2}
    assert all(row["fault"] is None for row in rows)
    errors = {name: max(row["oracle_error"] for row in rows if row["backend"] == name) for name in KERNELS}
    assert errors["triton"] == pytest.approx(0.01, rel=0.01) and max(errors["sdpa"], errors["cuda"]) < 1e-5


def test_a_shape_that_a_kernel_refuses_has_a_row_with_the_reason() -> None:
    """A refusal is a fault of that shape, and every row has the schema's columns and its process."""
    rows = ran().rows
    refused = [row for row in rows if str(row.get("fault")).startswith("refused: q: got h = 4")]
    assert Counter(row["backend"] for row in refused) == {"triton": SHAPES // 2}
    assert {row["process"] for row in rows} == {0}
    assert all(set(row) <= set(ROOFLINE.names) for row in rows)


def test_the_floor_is_of_the_tokens_that_are_selected() -> None:
    """The bytes are those of K and V of the selected tokens, the partial last block's clipped."""
    tokens = {2: 16 + 12, 3: 2 * 16 + 12}  # 60 tokens: the last of the four blocks holds 12
    rows = [row for row in ran("sdpa").rows if row["backend"] == "sdpa"]
    assert rows
    for row in rows:
        assert row["selected_bytes"] == row["rows"] * tokens[row["sel_count"]] * (32 + 32) * 4


def test_shapes_of_one_size_share_one_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """K and V are drawn once for all h and n of a size: on a GPU they are gigabytes."""
    seen: set[tuple[int, int, int]] = set()

    def spy(*arguments: Any) -> torch.Tensor:
        seen.add((arguments[0].shape[0], arguments[1].data_ptr(), arguments[2].data_ptr()))
        return gather(*arguments)

    monkeypatch.setitem(KERNELS, "cuda", spy)
    ran("sdpa", "cuda")
    assert len(seen) == len(SMALL.rows)


def test_another_process_has_other_inputs_and_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replicate repeats the method, not the draw."""
    keys: list[float] = []

    def spy(*arguments: Any) -> torch.Tensor:
        keys.append(arguments[1][0, 0, 0, 0].item())
        return gather(*arguments)

    monkeypatch.setitem(KERNELS, "cuda", spy)
    one, seen = timed(ran("sdpa", "cuda").rows), set(keys)
    keys.clear()
    other = timed(ran("sdpa", "cuda", process=1).rows)
    assert seen and not seen & set(keys)
    orders = [[(*shape_of(row), row["backend"]) for row in rows] for rows in (one, other)]
    assert orders[0] != orders[1]
    assert {row["process"] for row in other} == {1}


def test_facts_say_how_and_where_it_was_timed() -> None:
    """The bandwidth before and after, the clocks, strangers, and notes with their backend are facts."""
    facts = ran().facts
    assert facts.bandwidth_bytes_per_s == (4e12, 4e12) and facts.flush == "write 256 MiB, read 256 MiB"
    assert facts.read_bandwidth_bytes_per_s == (3.8e12, 3.8e12) and facts.other_processes == (7,)
    readings = SMALL.iters * (2 + SHAPES)  # rounds, groups: the empty graph, the control, the shapes
    assert facts.replicates[0].sm_clock_min_mhz == 1990 - 10 * readings
    assert facts.notes == tuple({"backend": name, "note": f"of {name}"} for name in KERNELS)
    assert facts.backends == {}  # the stage knows


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nmore"), NoMemory, r"^CUDA out of memory\.$"),
        (
            RuntimeError("CUDA error: an illegal memory access\nmore"),
            KernelFailed,
            r"^cuda: RuntimeError: CUDA error: ",
        ),
    ],
)
def test_a_kernel_that_fails_and_memory_that_is_short_are_told_apart(
    raised: Exception, expected: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either is one line, and the failure has the name of its backend."""

    def fails(*_: Any) -> torch.Tensor:
        raise raised

    monkeypatch.setitem(KERNELS, "cuda", fails)
    with pytest.raises(expected, match=message):
        ran("sdpa", "cuda")


def test_memory_that_the_harness_lacks_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches that do not fit are no backend's fault, and an outcome like any other."""

    def full(*_: Any) -> Callable[..., Any]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr(module, "full_case", full)
    with pytest.raises(NoMemory, match=r"^CUDA out of memory\.$"):
        ran()
