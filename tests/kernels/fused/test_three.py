"""The three launches on a GPU: what they hand to each other, at sizes that take each way through routing."""

from __future__ import annotations

import os

import pytest
import torch
from cores import Case, case, drawn, paper
from kernels.fused.calls import GPU, fault, planned

from nsa.kernels.core import Sizes
from nsa.kernels.fused import operator
from nsa.machine import nvcc

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine"),
]


@pytest.fixture(autouse=True)
def three(loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call by three launches, whatever is planned for its shape."""
    by_sizes = operator.plans.three_launches
    monkeypatch.setattr(operator, "_made", {})
    monkeypatch.setattr(operator.plans, "plan", by_sizes)


@pytest.mark.parametrize("width", [32, 96, 128, 192, 256])
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 33])
def test_every_split_of_a_batch_is_right(batch: int, width: int) -> None:
    """Long and short rows of one call, n of 16 and of 100, by few thread blocks a row and by many."""
    longest = 20000 if batch < 4 else 3000
    made = paper(tuple(max(1, longest - 371 * b) for b in range(batch)), longest)._replace(D=width, Dv=width)
    assert fault(made, batch) is None
    assert fault(made._replace(sizes=Sizes(32, 16, 64, 100, 300)), batch) is None


# l, d, l', n, w and a capacity: sums of blocks of all chunks in shared memory, of some at a time, of too few; more keys
# than fit there; no more blocks than those that are always selected.
WAYS = [
    (Sizes(32, 16, 64, 16, 512), 65536),
    (Sizes(32, 16, 64, 16, 512), 200000),
    (Sizes(32, 16, 16, 128, 512), 70000),
    (Sizes(16, 16, 16, 64, 0), 66000),
    (Sizes(400, 1, 4, 16, 100), 3000),
    (Sizes(1200, 1, 1, 128, 100), 3000),
    (Sizes(48, 16, 128, 3, 33), 5000),
]


@pytest.mark.parametrize(("sizes", "capacity"), WAYS)
def test_every_way_through_routing_is_right(sizes: Sizes, capacity: int) -> None:
    """At capacity, at a third of it and at a few tokens."""
    made = paper((capacity, capacity // 3, 70), capacity)._replace(groups=1, sizes=sizes)
    assert fault(made, 1) is None


def test_of_any_number_of_equal_blocks_the_lowest_are_selected() -> None:
    """With all compressed keys alike more blocks reach the bound than are compared with each other."""
    for length, count in ((4096, 16), (9000, 16), (70000, 16), (70000, 100)):
        call = case(paper((length,))._replace(sizes=Sizes(32, 16, 64, count, 512)), 0, GPU)
        call.k_cmp.copy_(call.k_cmp[:1, :, :1].clone())
        operator.decode_core(*call)
        last = (length - 1) // 64
        expected = torch.tensor([*range(min(count - 2, last - 1)), last - 1, last], device=GPU)
        found = call.block_indices[:, :, : len(expected)]
        assert (found == expected).all() and (call.block_indices[:, :, len(expected) :] == -1).all(), (length, count)


def test_no_launch_takes_what_the_replay_before_left() -> None:
    """One graph over other inputs each time gives an eager call's bits: each part is waited for anew."""
    made = paper((20000, 700, 9000), 20000)
    calls = [case(made, seed, GPU) for seed in range(6)]
    eager = [(operator.decode_core(*call).clone(), call.block_indices.clone()) for call in calls]
    one = Case(*(item.clone() if isinstance(item, torch.Tensor) else item for item in calls[0]))
    out = torch.empty_like(eager[0][0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operator.decode_core(*one, out)
    for turn in range(60):
        call, (expected, blocks) = calls[turn % 6], eager[turn % 6]
        for to, given in zip(one, call, strict=True):
            if isinstance(to, torch.Tensor) and isinstance(given, torch.Tensor):
                to.copy_(given)
        graph.replay(), graph.replay()  # the second starts while the first still runs
        assert torch.equal(one.block_indices, blocks), turn
        assert torch.equal(out.view(torch.uint8), expected.view(torch.uint8)), turn


def test_many_calls_on_two_streams_at_once() -> None:
    """Launches that wait for each other do so on each stream alone, however the device mixes them."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    calls = [case(paper((30000,) * 5), 1, GPU), case(drawn(2)._replace(lengths=(2000,) * 4, capacity=2000), 2, GPU)]
    alone = [operator.decode_core(*call) for call in calls]
    torch.cuda.synchronize()
    outs: list[list[torch.Tensor]] = [[], []]
    for _ in range(100):
        for stream, call, made in zip(streams, calls, outs, strict=True):
            with torch.cuda.stream(stream):
                made.append(operator.decode_core(*call))
    torch.cuda.synchronize()
    for made, expected in zip(outs, alone, strict=True):
        assert all(torch.equal(out.view(torch.uint8), expected.view(torch.uint8)) for out in made)


def test_plans_of_this_file_are_of_three_launches() -> None:
    """The fixture does what it says."""
    made = paper((100,))
    operator.decode_core(*case(made, 0, GPU))
    assert {plan.name for plan in operator._made.values()} == {planned("three", 1, made).name} == {"three"}
