"""The extension: built without a GPU, its schema, and on a GPU the whole contract."""

from __future__ import annotations

import os
import random

import pytest
import torch
from cores import EVERY, case, drawn, paper
from kernels.fused.calls import GPU, LIMIT, fault, paper_like, planned, tie_fault
from replayed import replay_faults

from nsa.bench.method.core_oracle import core_oracle, routing_fault
from nsa.errors import InputError
from nsa.kernels.core import Sizes
from nsa.kernels.extension.manifest import Manifest
from nsa.kernels.fused import operator, plan
from nsa.machine import nvcc
from nsa.shapes import NsaShape

pytestmark = pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine")
SHAPES = int(os.environ.get("NSA_TEST_SHAPES", "300"))  # 2000 in a run of its own; fewer under compute-sanitizer


def test_it_builds_without_a_gpu_or_a_warning(manifest: Manifest) -> None:
    """It compiles with and without clusters, and no kernel of one launch spills a register."""
    assert manifest.status == "built", manifest.log
    assert {kernel.arch for kernel in manifest.kernels} == {f"sm_{arch}" for arch in manifest.archs}
    assert manifest.warnings == ()
    for kind in ("6stream", "8resident", "4ring"):
        one = [kernel for kernel in manifest.kernels if kind in kernel.kernel and kernel.arch == "sm_90a"]
        assert one and [kernel for kernel in one if kernel.spill_bytes] == []


@pytest.mark.gpu
def test_the_schema(loaded: None) -> None:
    """The operator says which of its arguments it writes."""
    schema = str(torch.ops.nsa.decode_core.default._schema)
    assert "Tensor(a!) block_indices, Tensor(b!) out" in schema


@pytest.mark.gpu
@pytest.mark.parametrize("shapes", [drawn, paper_like], ids=["contract", "paper"])
def test_random_shapes_equal_the_oracle(loaded: None, shapes: object) -> None:
    """Output and chosen blocks are right on random shapes, ragged, with NaN wherever nothing may be read."""
    assert callable(shapes)
    made = {seed: shapes(seed) for seed in range(SHAPES)}
    found = {seed: wrong for seed, shape in made.items() if (wrong := fault(shape, seed)) is not None}
    assert {seed: (wrong, made[seed]) for seed, wrong in found.items()} == {}


@pytest.mark.gpu
@pytest.mark.parametrize("width", [32, 128, 192])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8, 9, 16, 17, 32, 33, 64, 128])
def test_each_side_of_each_border_of_the_plan_is_right(loaded: None, batch: int, width: int) -> None:
    """Every number of thread blocks a row that a batch leads to, at short and long caches."""
    for longest in (1000, 4097):
        made = paper(tuple(max(1, longest - 37 * b) for b in range(batch)))._replace(D=width, Dv=min(width, 128))
        assert fault(made, batch) is None


# D, rows (batch times groups), thread blocks that hold each, and capacities on both sides of each layout's end.
LONG = [(128, 4, 16, 65536), (128, 4, 16, 65537), (128, 4, 16, 131072), (128, 4, 8, 131073)]
LONG += [(128, 8, 8, 32768), (128, 8, 8, 32769), (128, 9, 8, 65536), (128, 8, 8, 65537), (128, 8, 8, 131072)]
LONG += [(128, 16, 6, 18432), (128, 16, 6, 18433), (128, 14, 6, 67584), (128, 14, 6, 67585), (128, 14, 6, 131072)]
LONG += [(192, 4, 16, 32768), (192, 4, 16, 32769), (192, 4, 16, 65536), (192, 4, 16, 65537), (192, 4, 16, 131072)]
LONG += [(192, 8, 8, 16384), (192, 8, 8, 16385), (192, 8, 8, 131072), (192, 16, 6, 12288), (192, 16, 6, 12289)]
LONG += [(192, 14, 6, 65536), (192, 14, 4, 65537)]


@pytest.mark.gpu
@pytest.mark.parametrize(("width", "rows", "ranks", "capacity"), LONG)
def test_each_side_of_each_border_of_a_long_cache_is_right(
    loaded: None, width: int, rows: int, ranks: int, capacity: int
) -> None:
    """Rows as long as the cache, a third of it, and shorter ones, by each layout of a cluster that holds them."""
    lengths = [capacity, capacity // 3, capacity - 1291, 700] * 4
    batch, groups = (rows, 1) if rows > 8 else (2, rows // 2)
    made = paper(tuple(lengths[:batch]), capacity)._replace(groups=groups, D=width)
    call = plan.Call(batch, groups, 16, width, 128, capacity, made.sizes, made.parts)
    device = torch.cuda.get_device_properties(GPU)
    if (device.major, device.multi_processor_count) == (9, 132):
        assert operator.plans.plan(call, operator._device(0)).cluster == ranks
    assert fault(made, rows) is None


@pytest.mark.gpu
@pytest.mark.parametrize("width", [128, 192])
@pytest.mark.parametrize("ranks", [6, 8, 16])
def test_rings_are_right_on_short_rows(loaded: None, monkeypatch: pytest.MonkeyPatch, ranks: int, width: int) -> None:
    """Random shapes of the kernel whose keys pass through rings, which plans use for long rows only."""
    monkeypatch.setattr(operator, "plan", lambda *_: plan.Plan("ring", 1, 1, 1, ranks, 16))
    found = {}
    for seed in range(min(SHAPES, 300)):
        draw = random.Random(seed * 31 + ranks)
        made = paper_like(seed)
        capacity = draw.choice([draw.randint(1, 200), draw.randint(1, 3000), draw.randint(1, 20000)])
        made = made._replace(
            capacity=capacity,
            lengths=tuple(draw.choice([capacity, draw.randint(0, capacity)]) for _ in range(draw.choice([1, 2, 5]))),
            sizes=Sizes(32, 16, 64, 16, draw.choice([512, 512, 100, 0])),
            D=width,
            Dv=128,
        )
        if (wrong := fault(made, seed)) is not None:
            found[seed] = (wrong, made)
    assert found == {}


@pytest.mark.gpu
def test_chunks_of_a_warp_are_right_on_short_rows(loaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random shapes and arms where warps take whole chunks of compressed tiles, which plans use for long rows only."""
    monkeypatch.setattr(operator, "plan", lambda *_: plan.Plan("chunks", 1, 1, 1, plan.CHUNKS, 8))
    found = {}
    for seed in range(min(SHAPES, 300)):
        draw = random.Random(seed * 31)
        capacity = draw.choice([draw.randint(1, 200), draw.randint(1, 3000), draw.randint(1, 131072)])
        lengths = tuple(draw.choice([capacity, draw.randint(0, capacity)]) for _ in range(draw.choice([1, 2, 5])))
        shape = paper_like(seed)._replace(capacity=capacity, lengths=lengths, D=128, Dv=128)
        if (wrong := fault(shape, seed)) is not None:
            found[seed] = (wrong, shape)
    assert found == {}


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "width"), [("as planned", 128), ("as planned", 192), ("chunks", 128)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_token_far_above_the_first_ones_is_weighed(
    loaded: None, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, name: str, width: int
) -> None:
    """Scores 2^12 to 2^60 above those of the tokens before, again and again: a base of exponentials is raised."""
    made = paper((131072, 70001), dtype=dtype)._replace(groups=2, D=width)
    if name == "chunks":
        monkeypatch.setattr(operator, "plan", lambda *_: planned(name, plan.CHUNKS, made))
    call = case(made, 0, GPU)
    for step, at in enumerate((100, 333, 514, 2000, 2049, 3500, 4100)):
        call.k_cmp[:, :, at] = call.q[:, :, step] * (0.3 + 0.2 * step)
    out = operator.decode_core(*call)
    judged = core_oracle(*call)
    assert routing_fault(call.block_indices.cpu(), judged.importance.cpu(), call.seq_lens.cpu(), made.sizes) is None
    assert bool(((out.double() - judged.output).norm(dim=-1) <= LIMIT[dtype] * judged.output.norm(dim=-1)).all())


KINDS = [("resident", 6), ("resident", 8), ("resident", 16), ("ring", 6), ("ring", 8), ("ring", 16)]
KINDS += [("stream", ranks) for ranks in (1, 2, 3, 4, 8)] + [("three", 1)]
ROUTED = [(*kind, width) for kind in KINDS for width in (128, 192)] + [("chunks", 2, 128)]


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "ranks", "width"), ROUTED)
def test_scores_hundreds_of_powers_of_two_apart(
    loaded: None, monkeypatch: pytest.MonkeyPatch, name: str, ranks: int, width: int
) -> None:
    """What one slice, chunk or tile gives to the next one's first block may be 2^400 times what is there."""
    drawn = paper((1200, 1150, 1100))._replace(D=width)
    monkeypatch.setattr(operator, "plan", lambda *_: planned(name, ranks, drawn))
    for seed in range(20):
        call = case(drawn, seed, GPU)
        call.q.mul_(45)
        operator.decode_core(*call)
        importance = core_oracle(*call).importance.cpu()
        assert routing_fault(call.block_indices.cpu(), importance, call.seq_lens.cpu(), drawn.sizes) is None, seed


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "ranks", "width"), ROUTED)
def test_of_equal_blocks_among_others_the_lowest_are_selected(
    loaded: None, monkeypatch: pytest.MonkeyPatch, name: str, ranks: int, width: int
) -> None:
    """Around each, exponentials are relative to what is greatest there: to other powers of two."""
    drawn = paper((8192, 7900))._replace(D=width)
    monkeypatch.setattr(operator, "plan", lambda *_: planned(name, ranks, drawn))
    for seed in range(6):
        assert tie_fault(drawn, seed) is None, seed


@pytest.mark.gpu
@pytest.mark.parametrize("width", [128, 192])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_of_equal_blocks_of_a_long_row_the_lowest_are_selected(loaded: None, batch: int, width: int) -> None:
    """As below, where importance is that of exponentials with a base for each warp."""
    call = case(paper((70000,) * batch)._replace(D=width), 0, GPU)
    call.k_cmp.copy_(call.k_cmp[:1, :, :1].clone())
    operator.decode_core(*call)
    last = (70000 - 1) // 64
    assert (call.block_indices == torch.tensor([*range(14), last - 1, last], device=GPU)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("width", [128, 192])
@pytest.mark.parametrize("batch", [1, 2, 8, 16, 40, 80])
def test_of_equal_blocks_the_lowest_are_selected(loaded: None, batch: int, width: int) -> None:
    """With all compressed keys alike every inner block weighs the same: the lower index wins, exactly."""
    call = case(paper((4096,) * batch)._replace(D=width), 0, GPU)
    call.k_cmp.copy_(call.k_cmp[:1, :, :1].clone())
    operator.decode_core(*call)
    first = [*range(14), 62, 63]
    assert (call.block_indices == torch.tensor(first, device=GPU)).all()


@pytest.mark.gpu
def test_replays_are_bitwise_equal(loaded: None) -> None:
    """Replays of a captured call give the eager call's bits and blocks."""
    for seed in range(40):
        made = drawn(seed) if seed % 2 else paper_like(seed)
        call = case(made, seed, GPU)
        out = torch.empty(*call.q.shape[:3], made.Dv, dtype=made.dtype, device=GPU)
        try:
            operator.decode_core(*call, out)
        except InputError:
            continue
        eager, blocks = out.clone(), call.block_indices.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            operator.decode_core(*call, out)
        for _ in range(3):
            out.fill_(torch.nan)
            graph.replay()
            assert torch.equal(out.view(torch.uint8), eager.view(torch.uint8)), (seed, made)
            assert torch.equal(call.block_indices, blocks), (seed, made)


@pytest.mark.gpu
def test_two_streams_at_once(loaded: None) -> None:
    """Calls on two streams share nothing: each gives what it gives alone."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for seed in (1, 2, 3, 5, 7):
        made = [paper((5000,) * 2), drawn(seed)._replace(parts=EVERY[0])]
        calls = [case(shape, seed, GPU) for shape in made]
        alone = [operator.decode_core(*call) for call in calls]
        torch.cuda.synchronize()
        for _ in range(20):
            outs = []
            for stream, call in zip(streams, calls, strict=True):
                with torch.cuda.stream(stream):
                    outs.append(operator.decode_core(*call))
            torch.cuda.synchronize()
            assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(outs, alone, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize(("batch", "heads", "width"), [(1, 16, 128), (1, 16, 192), (3, 5, 128), (40, 16, 128)])
def test_one_graph_serves_two_thousand_tokens(loaded: None, batch: int, heads: int, width: int) -> None:
    """One captured call is right at every length from none to 2000, NaN beyond, with lengths on the device only."""
    made = paper((2000,) * batch)._replace(heads=heads, D=width)
    full = case(made, 7, GPU)
    call = full._replace(k=full.k.clone(), v=full.v.clone(), k_cmp=full.k_cmp.clone(), v_cmp=full.v_cmp.clone())
    for cache in (call.k, call.v, call.k_cmp, call.v_cmp):
        cache.fill_(torch.nan)
    call.seq_lens.zero_()
    out = torch.empty(*call.q.shape[:3], made.Dv, dtype=made.dtype, device=GPU)
    operator.decode_core(*call, out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operator.decode_core(*call, out)
    for S in range(1, 2001):
        call.k[1:, :, :, S - 1], call.v[1:, :, :, S - 1] = full.k[1:, :, :, S - 1], full.v[1:, :, :, S - 1]
        if S >= 32 and (S - 32) % 16 == 0:
            at = (S - 32) // 16
            call.k_cmp[:, :, at], call.v_cmp[:, :, at] = full.k_cmp[:, :, at], full.v_cmp[:, :, at]
        call.seq_lens.fill_(S)
        graph.replay()
        if S % 7 == 0 or S < 200:
            some = slice(0, 3)
            few = call._replace(
                q=call.q[some],
                gates=call.gates[some],
                k=call.k[:, some],
                v=call.v[:, some],
                k_cmp=call.k_cmp[some],
                v_cmp=call.v_cmp[some],
                seq_lens=call.seq_lens[some],
                block_indices=call.block_indices[some],
            )
            judged = core_oracle(*few)
            wrong = routing_fault(few.block_indices.cpu(), judged.importance.cpu(), few.seq_lens.cpu(), made.sizes)
            assert wrong is None, (S, wrong)
            error = (out[some].double() - judged.output).norm(dim=-1)
            assert bool((error <= LIMIT[made.dtype] * judged.output.norm(dim=-1)).all()), S


@pytest.mark.gpu
@pytest.mark.parametrize("width", [32, 96, 128])
def test_2000_tokens_by_replays_of_one_step(loaded: None, width: int) -> None:
    """From an empty cache, with the layer around it, by three launches and by one."""
    shape = NsaShape(dim=256, heads=32, groups=2, head_dim=width, value_dim=width)
    assert replay_faults(operator.decode_core, shape, torch.bfloat16, 2000, 2) == []
