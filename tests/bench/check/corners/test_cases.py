"""The corner cases: each draws what its name says, within the contract, and anew for each seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from standins import CPU

from nsa.bench.check.corners.cases import DTYPES, OF_VALUES, Case, cases
from nsa.bench.check.corners.draw import Draw, Drawn
from nsa.bench.method.accuracy import oracle, selected_oracle, worst_row_error
from nsa.kernels.contract import check_inputs
from nsa.kernels.sdpa.packed import gather
from nsa.records.shapes import CheckShape

BASE = CheckShape(16, 4, 64, 32, 8, 64, 600, 4, "float16")
CASES = cases(BASE.dtype)
LARGE = ("more than 2^31 numbers", "blocks beyond 2^15")


def drawn(name: str, seed: int = 0, base: CheckShape = BASE) -> list[Drawn]:
    """The calls of a case."""
    return list(cases(base.dtype)[name].draw(Draw(base, seed, name, CPU)))


@pytest.mark.parametrize("name", CASES)
def test_a_case_keeps_the_contract(name: str) -> None:
    """Indices ascend, are unique and inside the caches, -1 stands last, and the row names the call's own sizes."""
    for each in drawn(name):
        call, shape = each.call, each.shape
        check_inputs(*call)
        B, G, h, D = call.q.shape
        assert (shape.rows, shape.groups, shape.heads_per_group, shape.head_dim) == (B * G, G, h, D)
        assert (shape.value_dim, shape.sel_block) == (call.v.shape[3], call.block_size)
        assert f"torch.{shape.dtype}" == str(call.q.dtype)
        assert int(call.seq_lens.max()) <= shape.context <= call.k.shape[2]
        index = call.block_indices.long()
        later = torch.where(index[..., 1:] < 0, 2**40, index[..., 1:])
        before = torch.where(index[..., :-1] < 0, 2**39, index[..., :-1])
        assert bool((later > before).all()) and int(index.max()) * call.block_size < call.k.shape[2]


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_drawn_anew_for_each_seed(name: str) -> None:
    """One seed gives one case; another gives other queries."""
    first, again, other = drawn(name, 1), drawn(name, 1), drawn(name, 2)
    assert all(
        torch.equal(one.call.q, two.call.q) and one.shape == two.shape for one, two in zip(first, again, strict=True)
    )
    assert not all(one.call.q.equal(two.call.q) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("name", [name for name in CASES if name not in LARGE])
def test_packed_sdpa_is_right_by_both_oracles(name: str) -> None:
    """The oracle that judges the cases, and the dense one that shares no step with it, agree on every call."""
    for each in drawn(name):
        exact = selected_oracle(each.call)
        assert worst_row_error(exact, oracle(each.call)) < 1e-12
        assert worst_row_error(gather(*each.call), exact) < (5e-3 if each.shape.dtype == "bfloat16" else 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_tried(dtype: str) -> None:
    """A run has its own dtype in most cases, and each other one in a case of its own."""
    assert {f"in {other}" for other in DTYPES if other != dtype} <= cases(dtype).keys()
    assert f"in {dtype}" not in cases(dtype)


def softmax_of(each: Drawn) -> torch.Tensor:
    """The probabilities of the selected tokens of a full call, [B, G, h, n*l'] in float64."""
    call = each.call
    offset = torch.arange(call.block_size)
    place = (call.block_indices.long()[..., None] * call.block_size + offset).flatten(2)
    place, seen = place.clamp(max=call.k.shape[2] - 1), place < call.seq_lens[:, None, None]
    k = call.k.gather(2, place[..., None].expand(-1, -1, -1, call.k.shape[3])).double().nan_to_num()
    scores = call.q.double() @ k.transpose(-1, -2) / call.q.shape[3] ** 0.5
    return scores.masked_fill(~seen[:, :, None], -torch.inf).softmax(-1)


def scores_of(each: Drawn) -> torch.Tensor:
    """Every score of a full call."""
    call = each.call
    return (
        call.q.double() @ call.k[:, :, : int(call.seq_lens.min())].double().transpose(-1, -2) / call.q.shape[3] ** 0.5
    )


SAYS: dict[str, Callable[[Drawn], bool]] = {
    "tail of small probabilities": lambda each: bool(
        ((softmax_of(each) < 2e-5).sum(-1) > 200).any() and (softmax_of(each).amax(-1) > 0.98).all()
    ),
    "low scores": lambda each: bool((scores_of(each) < -60).all()),
    "sink": lambda each: bool((softmax_of(each)[..., 0] > 0.3).all()),
    "equal queries": lambda each: bool((each.call.q == each.call.q[:1, :1]).all()),
    "equal keys": lambda each: torch.equal(each.call.k[:, :, 1:600:2], each.call.k[:, :, 0:600:2]),
    "equal scores": lambda each: bool((scores_of(each) == 0).all()),
    "equal values": lambda each: bool((each.call.v[:, :, :600] == each.call.v[:, :, :1]).all()),
    "queries x 8 and x 30": lambda each: bool(scores_of(each).abs().max() > 25),
    "no blocks": lambda each: bool((each.call.block_indices == -1).all()),
    "single tokens": lambda each: bool((each.call.seq_lens == 1).all()),
    "unlike lengths": lambda each: each.call.seq_lens.argmax() == 3 and int(each.call.seq_lens.min()) == 0,
    "one token in the last block": lambda each: bool((each.call.seq_lens % 64 == 1).all()),
    "infinity beyond the lengths": lambda each: bool(each.call.v.isinf().any() and not each.call.v.isnan().any()),
    "NaN in other blocks": lambda each: bool(each.call.k[0, :, :600].isnan().any()),
    "more than 2^31 numbers": lambda each: each.call.k.numel() > 2**31 and each.call.v.numel() > 2**30,
    "blocks beyond 2^15": lambda each: int(each.call.block_indices.max()) >= 2**15,
    "large values in float16": lambda each: (
        each.call.q.dtype == torch.float16 and bool((each.call.v[:, :, :600] > 900).all())
    ),
    "borders of blocks": lambda each: {63, 64, 65, 127, 128, 129} <= set(each.call.seq_lens.tolist()),
    "odd n": lambda each: each.shape.sel_count % 2 == 1,
    "D < Dv": lambda each: each.shape.head_dim < each.shape.value_dim,
    "D > Dv": lambda each: each.shape.head_dim > each.shape.value_dim,
    "q strided": lambda each: not each.call.q.is_contiguous() and each.call.k.is_contiguous(),
    "k and v strided": lambda each: each.call.k.stride(2) > 64 and each.call.v.stride(2) > 32,
    "v strided": lambda each: each.call.k.is_contiguous() and each.call.v.stride(2) > 32,
    "layout [B, S, G, D]": lambda each: each.call.k.transpose(1, 2).is_contiguous(),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_case_is_what_its_name_says(name: str) -> None:
    """Under several seeds."""
    assert all(SAYS[name](each) for seed in range(3) for each in drawn(name, seed))


def test_shapes_near_the_grid_are_in_no_list() -> None:
    """Of some seeds most differ: no kernel can know them by heart."""
    shapes = {str(each.shape) for seed in range(10) for each in drawn("near the grid", seed)}
    assert len(shapes) >= 27


def test_cases_of_the_grids_sizes_must_be_taken() -> None:
    """A kernel may refuse sizes and strides, and no values, lengths or orders of calls."""
    free = {name for name, case in CASES.items() if not case.taken}
    assert free.isdisjoint(OF_VALUES) and {"h = 1", "q strided", "near the grid"} <= free
    assert CASES["two outputs held"] == Case(CASES["two outputs held"].draw, taken=True, held=True)
