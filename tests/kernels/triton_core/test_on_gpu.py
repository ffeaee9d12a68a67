"""The compiled core on a GPU: the whole contract by random shapes, replays, and one graph over growing lengths."""

from __future__ import annotations

import os

import pytest
import torch
from cores import EVERY, case, drawn, paper
from kernels.triton_core.faults import CORE, LIMIT, fault

from nsa.bench.method.core_oracle import core_oracle, routing_fault
from nsa.kernels.core import Parts
from nsa.kernels.parts import host

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
FIRST = int(os.environ.get("NSA_TEST_FIRST", "0"))  # processes side by side take shapes of their own
SHAPES = int(os.environ.get("NSA_TEST_SHAPES", "60"))  # each compiles kernels of its own: about 3 s


def test_random_shapes_equal_the_oracle() -> None:
    """Output and chosen blocks are right on random shapes, ragged, with NaN wherever nothing may be read."""
    made = {seed: drawn(seed) for seed in range(FIRST, FIRST + SHAPES)}
    made = {s: m._replace(dtype=torch.float32) if s % 5 == 0 else m for s, m in made.items()}
    found = {seed: wrong for seed, shape in made.items() if (wrong := fault(shape, seed, GPU)) is not None}
    assert {seed: (wrong, made[seed]) for seed, wrong in found.items()} == {}


def test_random_shapes_by_sums_of_blocks_equal_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with sums kept in place of scores wherever l, d and l' allow it, as if there were many scores."""
    monkeypatch.setattr(host, "SUMMED_BYTES", -1)
    made = {seed: drawn(seed)._replace(parts=Parts()) for seed in range(FIRST, FIRST + SHAPES // 2)}
    found = {seed: wrong for seed, shape in made.items() if (wrong := fault(shape, seed, GPU)) is not None}
    assert {seed: (wrong, made[seed]) for seed, wrong in found.items()} == {}


@pytest.mark.parametrize("parts", EVERY, ids=str)
def test_every_part_mask_equals_the_oracle(parts: object) -> None:
    """The paper's geometry with each set of parts, at rows that are split and at rows that are not."""
    for lengths in ((5000,), (1500, 0, 31, 32, 64, 1499) * 7):
        assert fault(paper(lengths)._replace(parts=parts), 0, GPU) is None


@pytest.mark.parametrize(("batch", "above"), [(1, 5 << 20), (8, 5 << 20), (1, -1), (8, -1), (40, -1), (256, -1)])
def test_of_equal_blocks_the_lowest_are_selected(batch: int, above: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all compressed keys alike every inner block weighs the same: the lower index wins, by scores and by sums."""
    monkeypatch.setattr(host, "SUMMED_BYTES", above)
    call = case(paper((4096,) * batch), 0, GPU)
    call.k_cmp.copy_(call.k_cmp[:1, :, :1].clone())
    CORE(*call)
    assert (call.block_indices == torch.tensor([*range(14), 62, 63], device=GPU)).all()


@pytest.mark.parametrize(("batch", "above"), [(1, 5 << 20), (3, 5 << 20), (3, -1), (40, -1)])
def test_one_graph_serves_growing_lengths(batch: int, above: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One captured call is right at every length, NaN beyond, by scores and by sums; replays give the same bits."""
    monkeypatch.setattr(host, "SUMMED_BYTES", above)
    made = paper((2000,) * batch)
    full = case(made, 7, GPU)
    call = full._replace(k=full.k.clone(), v=full.v.clone(), k_cmp=full.k_cmp.clone(), v_cmp=full.v_cmp.clone())
    for cache in (call.k, call.v, call.k_cmp, call.v_cmp):
        cache.fill_(torch.nan)
    call.seq_lens.zero_()
    out = torch.empty(*call.q.shape[:3], made.Dv, dtype=made.dtype, device=GPU)
    CORE(*call, out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        CORE(*call, out)
    for S in range(1, 2001):
        call.k[1:, :, :, S - 1], call.v[1:, :, :, S - 1] = full.k[1:, :, :, S - 1], full.v[1:, :, :, S - 1]
        if S >= 32 and (S - 32) % 16 == 0:
            at = (S - 32) // 16
            call.k_cmp[:, :, at], call.v_cmp[:, :, at] = full.k_cmp[:, :, at], full.v_cmp[:, :, at]
        call.seq_lens.fill_(S)
        if S % 61 and S > 70:
            continue
        found = []
        for _ in range(2):
            out.fill_(torch.nan)
            call.block_indices.fill_(-7)
            graph.replay()
            found.append((out.clone(), call.block_indices.clone()))
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1]), S
        judged = core_oracle(*call)
        wrong = routing_fault(call.block_indices.cpu(), judged.importance.cpu(), call.seq_lens.cpu(), made.sizes)
        assert wrong is None, (S, wrong)
        error = (out.double() - judged.output).norm(dim=-1)
        assert bool((error <= LIMIT[made.dtype] * judged.output.norm(dim=-1)).all()), S


def test_two_streams_at_once() -> None:
    """Calls on two streams share nothing: each gives what it gives alone."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    calls = [case(paper((5000,) * 2), 1, GPU), case(paper((3000,) * 9), 2, GPU)]
    alone = [CORE(*call) for call in calls]
    torch.cuda.synchronize()
    for _ in range(20):
        outs = []
        for stream, call in zip(streams, calls, strict=True):
            with torch.cuda.stream(stream):
                outs.append(CORE(*call))
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(outs, alone, strict=True))
