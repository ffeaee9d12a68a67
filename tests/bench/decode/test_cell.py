"""Arms, the emitting neighbour, reads counted from tensors, and a cell that proves itself."""

from __future__ import annotations

import pytest
import torch
from strategies import CPU

from nsa.attention.layer import Keys
from nsa.bench.decode.arms import ARMS, emission
from nsa.bench.decode.cell import Cell, visible
from nsa.bench.method.reads import selected_by_kernel, selected_by_tensors
from nsa.config import DecodeSettings
from nsa.kernels.sdpa.packed import gather
from nsa.shapes import NsaShape


@pytest.mark.parametrize(
    ("S", "steps", "weight"),
    [
        (31, {False: 31}, 0.0),  # the first block is not full: nothing emits
        (32, {True: 32, False: 31}, 1 / 16),
        (128, {True: 128, False: 127}, 1 / 16),
        (129, {True: 128, False: 129}, 1 / 16),
        (143, {True: 144, False: 143}, 1 / 16),
        (136, {True: 128, False: 136}, 1 / 16),
    ],
)
def test_emission_pairs_a_step_with_its_neighbour(S: int, steps: dict[bool, int], weight: float) -> None:
    """Breaks if emitting steps are over- or under-weighted, or S itself is not measured."""
    assert emission(NsaShape(), S) == (steps, weight)
    assert S in steps.values()
    assert emission(NsaShape(cmp_stride=1, cmp_block=4), S) == ({True: S}, 1.0)


@pytest.mark.parametrize(("batch", "S"), [(1, 1), (1, 31), (2, 128), (1, 700), (1, 1024), (1, 1500)])
def test_counted_reads_equal_the_closed_form(batch: int, S: int) -> None:
    """Breaks if a branch is given other tokens than the algorithm says."""
    cell = Cell(DecodeSettings(model=NsaShape(), batch=batch), S, gather, CPU)
    assert cell.reads.actual == NsaShape().reads_expected(S)
    assert cell.bytes_read == NsaShape().reads_expected(S) * batch * 2 * (32 + 32) * 4


def test_visible_keys_are_counted_from_the_mask() -> None:
    """Breaks if tokens that a mask hides are counted, or tokens that it shows are not."""
    mask = torch.ones(1, 1, 4, 7, dtype=torch.bool)
    mask[..., :2] = False
    assert visible(Keys(torch.zeros(1, 2, 5, 4), None)) == 5
    assert visible(Keys(torch.zeros(1, 2, 7, 4), mask)) == 5
    assert visible(None) == 0


BLOCKS = torch.tensor([[[0, 2, -1], [1, 2, 3]], [[0, 1, -1], [-1, -1, -1]]], dtype=torch.int32)  # [B=2, G=2, n=3]
LENGTHS = torch.tensor([55, 20], dtype=torch.int32)
HELD = [[32, 16 + 16 + 7], [16 + 4, 0]]


def counted(kernel, dtype: torch.dtype) -> list[list[float]]:
    """What the probe counts on the case above: l' = 16, a capacity of 64."""
    return selected_by_kernel(kernel, BLOCKS, LENGTHS, 16, 64, (4, 32, 32), torch.zeros(1, dtype=dtype)).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reads_are_counted_from_what_reaches_the_output(dtype: torch.dtype) -> None:
    """Breaks if the count would come out right although a kernel reads fewer, more or other tokens."""
    assert selected_by_tensors(BLOCKS, LENGTHS, 16).tolist() == HELD
    assert counted(gather, dtype) == HELD

    def fewer(q, k, v, blocks, lens, size):  # drops the newest token
        return gather(q, k, v, blocks, lens - 1, size)

    def half(q, k, v, blocks, lens, size):  # every block's second half is lost
        return gather(q, k, v, torch.where(blocks >= 0, 2 * blocks, -1), lens, size // 2)

    def more(q, k, v, blocks, lens, size):  # one block too many
        extra = torch.where((blocks == -1) & (blocks.roll(1, -1) == 2), 1, blocks)
        return gather(q, k, v, extra, lens, size)

    assert counted(fewer, dtype) == [[32, 38], [19, 0]]
    assert counted(half, dtype)[0] == [16, 8 + 8 + 7]
    assert counted(more, dtype) == [[48, 39], [20, 0]]


def test_arms_repeat_bit_for_bit_from_the_same_state() -> None:
    """Breaks if an arm moves the cache, so that the next one runs at another S."""
    cell = Cell(DecodeSettings(), 200, gather, CPU)
    for emits in cell.steps:
        first = {name: cell.arm(name, emits).output for name in ARMS}
        again = {name: cell.arm(name, emits).output for name in reversed(ARMS)}
        assert all(torch.equal(first[name], again[name]) for name in ARMS)
        assert torch.equal(first["all"], first["all_again"])
        assert not torch.equal(first["all"], first["all_without_sel"])


def test_poison_beyond_the_length_is_seen() -> None:
    """Breaks if the finite check could not catch a kernel that reads one token too many."""

    def one_too_many(q, k, v, block_indices, seq_lens, block_size):
        return gather(q, k, v, block_indices, seq_lens + 1, block_size)

    honest = Cell(DecodeSettings(), 100, gather, CPU)
    assert honest.finite_when_poisoned()
    before = honest.cache.k.clone()
    assert honest.finite_when_poisoned() and torch.equal(honest.cache.k, before)  # nothing is lost
    assert not Cell(DecodeSettings(), 100, one_too_many, CPU).finite_when_poisoned()
