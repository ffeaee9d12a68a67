"""The judge of kernels: its float64 oracles, and the faults that it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from standins import CPU

from nsa.attention import reference
from nsa.bench.method import accuracy
from nsa.bench.method.accuracy import (
    fault,
    mean_absolute_error,
    oracle,
    run_poisoned,
    same_bits,
    selected_oracle,
    worst_row_error,
)
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.kernels.sdpa.packed import gather
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(24, 4, 32, 64, 6, 16, 200, 4, "float32")
ORACLES = pytest.mark.parametrize("judge", [oracle, selected_oracle])


def by_loops(call: Call) -> np.ndarray:
    """What the loops of the reference say."""
    numbers = [tensor.double().numpy() for tensor in call[:3]]
    return reference.select_attention(*numbers, call[3].numpy(), call[4].numpy(), call[5])


@ORACLES
@pytest.mark.parametrize("seed", range(4))
def test_the_oracles_equal_the_loops(judge: Callable[[Call], torch.Tensor], seed: int) -> None:
    """On ragged lengths, padding, empty rows and NaN beyond the lengths both are the reference in float64."""
    call = ragged_case(SHAPE, seed, CPU)
    assert call.k.isnan().any() and (call.block_indices == -1).all(-1).any()
    np.testing.assert_allclose(judge(call).numpy(), by_loops(call), atol=1e-12)


@pytest.mark.parametrize(
    "shape",
    [
        replace(SHAPE, rows=4),  # one sequence
        replace(SHAPE, sel_count=20),  # more blocks than there are
        replace(SHAPE, sel_block=64, context=40),  # less than one block
        replace(SHAPE, heads_per_group=1, groups=1, head_dim=8, value_dim=1),
        replace(SHAPE, dtype="bfloat16"),
        replace(SHAPE, dtype="float16", sel_block=1, sel_count=3),
    ],
    ids=["one sequence", "too few blocks", "less than a block", "one number a token", "bfloat16", "float16"],
)
@pytest.mark.parametrize("case", [full_case, ragged_case])
def test_the_two_oracles_agree_on_every_kind_of_shape(case: Callable[..., Call], shape: CheckShape) -> None:
    """The one that gathers is the one that does not, to the last digits of float64."""
    call = case(shape, 0, CPU)
    exact = oracle(call)
    found = selected_oracle(call)
    assert found.dtype == torch.float64 and found.shape == exact.shape
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=0)


@ORACLES
def test_a_block_that_is_named_twice_counts_once(judge: Callable[[Call], torch.Tensor]) -> None:
    """Beside one another or not, at the end of a row or not, and for the loops too."""
    call = full_case(replace(SHAPE, sel_count=3), 0, CPU)
    for row, blocks in enumerate(([1, 1, 2], [1, 2, 1], [2, 2, 2], [0, 12, 12])):
        call.block_indices[:, row] = torch.tensor(blocks)
    once = call._replace(block_indices=call.block_indices.clone())
    for row, blocks in enumerate(([1, 2, -1], [1, 2, -1], [2, -1, -1], [0, 12, -1])):
        once.block_indices[:, row] = torch.tensor(blocks)
    np.testing.assert_allclose(judge(call).numpy(), by_loops(once), atol=1e-12)
    np.testing.assert_array_equal(by_loops(call), by_loops(once))


@pytest.mark.parametrize("sequences", [1, 4])
def test_sequences_that_do_not_fit_at_once_are_computed_in_turns(
    sequences: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little memory a chunk may take, the result is the same, the last and shorter chunk included."""
    call = ragged_case(SHAPE, 0, CPU)
    whole = selected_oracle(call)
    monkeypatch.setattr(accuracy, "CHUNK_BYTES", sequences * 8 * 4 * 6 * 16 * (32 + 64) + 1)  # of 6 sequences
    torch.testing.assert_close(selected_oracle(call), whole, atol=1e-13, rtol=0)
    monkeypatch.setattr(accuracy, "CHUNK_BYTES", 0)
    torch.testing.assert_close(selected_oracle(call), whole, atol=1e-13, rtol=0)


@ORACLES
def test_caches_of_any_stride_and_capacity_are_judged(judge: Callable[[Call], torch.Tensor]) -> None:
    """A cache that ends inside a block, or lies otherwise in memory, is read where its tokens are."""
    call = full_case(SHAPE, 0, CPU)
    exact = judge(call)
    cut = call._replace(k=call.k[:, :, :200], v=call.v[:, :, :200])
    assert cut.k.shape[2] % call.block_size
    strided = call._replace(
        k=call.k.transpose(1, 2).contiguous().transpose(1, 2),
        v=call.v.transpose(2, 3).contiguous().transpose(2, 3),
        q=call.q.repeat_interleave(2, -1)[..., ::2],
    )
    for other in (cut, strided):
        torch.testing.assert_close(judge(other), exact, atol=1e-13, rtol=0)


@ORACLES
def test_an_oracle_changes_nothing(judge: Callable[[Call], torch.Tensor]) -> None:
    """What it judges by is there for the next kernel, in float64 too."""
    call = ragged_case(replace(SHAPE, dtype="float64"), 0, CPU)
    before = [part.clone() for part in call[:5]]
    judge(call)
    for old, new in zip(before, call[:5], strict=True):
        assert same_bits(old, new)


def wrong(change: Callable[[Call, torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A kernel that is right but for one change of its output or inputs."""

    def kernel(*arguments) -> torch.Tensor:
        call = Call(*arguments)
        output = gather(*call)
        return change(call, output)

    return kernel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call, o: o.double(), "float64"),
        (lambda call, o: o[:, :, :2], "expected"),
        (lambda call, o: o.index_fill(0, torch.tensor([2]), torch.nan), "not finite"),
        (lambda call, o: torch.empty_like(o), "not finite"),  # never written: the poison shows
        (lambda call, o: o + 1e-6, "not exactly zero"),
        (lambda call, o: (call.q.mul_(2), o)[1], "input q was changed"),
        (lambda call, o: (call.block_indices.clamp_(min=0), o)[1], "input block_indices was changed"),
    ],
)
def test_faults_are_seen(change: Callable[[Call, torch.Tensor], torch.Tensor], message: str) -> None:
    """A wrong dtype or shape, memory that was not written, an empty row that is not zero, a changed input."""
    _, found = run_poisoned(wrong(change), ragged_case(SHAPE, 3, CPU))
    assert found is not None and message in found


@pytest.mark.parametrize("numbers", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_are_compared_to_the_last(dtype: torch.dtype, numbers: int) -> None:
    """NaN equals NaN and 0 is not -0, whatever the length and the place in memory; shape and dtype count too."""
    wide = torch.full((numbers + 1,), torch.nan, dtype=dtype)
    for here in (wide[:numbers], wide[1:], wide[:numbers].expand(2, numbers)):
        changed = here.clone()
        assert same_bits(here, changed)
        changed[..., -1] = 0.0
        signed = changed.clone()
        signed[..., -1] = -0.0
        assert not same_bits(here, changed) and not same_bits(changed, signed)
    assert not same_bits(wide, wide[None])
    assert not same_bits(torch.zeros(numbers, dtype=dtype), torch.zeros(numbers, dtype=torch.int32))


def test_numbers_that_lie_in_one_place_are_compared_once() -> None:
    """Caches of 2⁴⁰ numbers that share their tokens are compared in the memory of a few; a whole one is all read."""
    one, other = torch.randn(2, 1, 4), torch.randn(2, 1, 4)
    wide = one.expand(2, 2**37, 4)
    assert same_bits(wide, one.clone().expand(2, 2**37, 4)) and not same_bits(wide, other.expand(2, 2**37, 4))
    whole = one.expand(2, 3, 4).clone()
    assert same_bits(one.expand(2, 3, 4), whole)
    whole[1, 2, 3] += 1
    assert not same_bits(one.expand(2, 3, 4), whole) and same_bits(wide[:, :0], other.expand(2, 0, 4))


def test_a_right_kernel_has_no_fault_and_a_small_error() -> None:
    """What is right passes."""
    call = ragged_case(SHAPE, 4, CPU)
    output, found = run_poisoned(gather, call)
    assert found is None and fault(output, call) is None
    assert worst_row_error(output, oracle(call)) < 1e-5


def test_the_worst_row_shows_what_the_mean_hides() -> None:
    """One row of zeros among many has an error of 1, and hardly moves the mean."""
    call = full_case(SHAPE, 5, CPU)
    output, exact = gather(*call), oracle(call)
    broken = output.clone()
    broken[3, 1, 2] = 0
    assert mean_absolute_error(broken, output) < 3e-3
    assert worst_row_error(broken, exact) == pytest.approx(1.0)
