"""Reads are counted from what reaches a kernel's output, token by token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa.bench.method.reads import selected_by_kernel, selected_by_tensors
from nsa.kernels.sdpa.packed import gather

BLOCKS = torch.tensor([[[0, 2, -1], [1, 2, 3]], [[0, 1, -1], [-1, -1, -1]]], dtype=torch.int32)  # [B=2, G=2, n=3]
LENGTHS = torch.tensor([55, 20], dtype=torch.int32)
HELD = [[32, 16 + 16 + 7], [16 + 4, 0]]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])


def counted(kernel: Callable[..., torch.Tensor], dtype: torch.dtype) -> list[list[float]]:
    """What is counted on the case above: l' = 16, a capacity of 64."""
    return selected_by_kernel(kernel, BLOCKS, LENGTHS, 16, 64, (4, 32, 32), torch.zeros(1, dtype=dtype)).tolist()


def test_what_tensors_name_is_clipped_to_the_lengths() -> None:
    """A block counts its tokens before the length, and padding none."""
    assert selected_by_tensors(BLOCKS, LENGTHS, 16).tolist() == HELD


@DTYPES
def test_the_right_kernel_reads_what_it_is_given(dtype: torch.dtype) -> None:
    """The count from the output is that from the tensors, in every dtype."""
    assert counted(gather, dtype) == HELD


@DTYPES
def test_a_kernel_that_reads_other_tokens_is_counted_as_it_reads(dtype: torch.dtype) -> None:
    """Fewer tokens, half of each block, or one block too many show in the count."""

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


def test_a_token_that_is_read_twice_counts_twice() -> None:
    """A block that is taken twice beside others shows twice as often as they do."""

    def twice(q, k, v, blocks, lens, size):  # the first block once more
        return gather(q, k, v, torch.cat((blocks[..., :1], blocks), -1), lens, size)

    assert counted(twice, torch.float32)[0] == [32 + 16, 32 + 16 + 7]
