"""Packing for attention over unequal sequences: what PyTorch's FlashAttention is given, and what is refused before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.sdpa.calls import TOLERANCE, draw_call, require_oracle, unequal_attention

from nsa.errors import InputError
from nsa.kernels import varlen


def of_one_width(q, k, v, cu_q, cu_k, max_q, max_k, dropout, causal, debug, *, scale):
    """FlashAttention's kernel as aten has it: one width for q, k and v, and the scale that it is given."""
    assert q.shape[-1] == k.shape[-1] == v.shape[-1]
    assert dropout == 0 and causal is debug is False
    return unequal_attention(q, k, v, cu_q, cu_k, max_q, max_k, scale=scale), None


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flash_equals_the_oracle_on_the_kernel_that_it_calls(dtype: torch.dtype, data: st.DataObject) -> None:
    """FlashAttention, which no CPU has, is given the right blocks, lengths, boundaries and scale."""
    call = draw_call(data, dtype, whole=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.aten, "_flash_attention_forward", of_one_width)
        require_oracle(lambda *c: varlen.select(varlen.flash_attend, *c), call)


def test_boundaries_leave_what_follows_a_length_to_no_query() -> None:
    """What follows a row's length, NaN perhaps, lies in a sequence without a query."""
    lengths = torch.tensor([5, 0, 8], dtype=torch.int32)
    cu_q, cu_k = varlen.boundaries(varlen.Packed(*[torch.empty(0)] * 3, lengths, heads=4, tokens=8))
    assert cu_q.tolist() == [0, 4, 4, 8, 8, 12]
    assert cu_k.tolist() == [0, 5, 8, 8, 16, 24]


def test_token_counts_at_the_edges() -> None:
    """Padding and blocks that start at the length count no token, in sequences of any length."""
    indices = torch.tensor([[[0, 2, 5], [0, 3, -1], [-1, -1, -1], [3, 4, 5]]], dtype=torch.int32)
    for length, expected in ((96, [48, 32, 0, 48]), (33, [17, 16, 0, 0]), (0, [0, 0, 0, 0])):
        counts = varlen.token_counts(indices, torch.tensor([length], dtype=torch.int32), 16)
        assert counts.tolist() == [expected]
    long = torch.tensor([2**30], dtype=torch.int32)
    for block_size in (3, 16, 128):
        assert varlen.token_counts(indices[:, 2:3], long, block_size).tolist() == [[0]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"dtype": torch.float16}, None),
        ({"is_cuda": False, "device": "cpu"}, "on cpu, expected a CUDA device"),
        ({"dtype": torch.float32}, "got torch.float32, expected float16 or bfloat16"),
        ({"shape": (1, 1, 4, 32)}, None),
        ({"shape": (1, 1, 4, 20)}, "D = 20 and Dv = 64, expected multiples of 8"),
        ({"device": "old"}, r"compute capability \(7, 5\), expected at least \(8, 0\)"),
    ],
)
def test_flash_refuses_before_it_runs(change: dict, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What FlashAttention does not take is refused with the reason before it is called."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device == "old" else (9, 0))
    facts = {"is_cuda": True, "device": "cuda:0", "dtype": torch.bfloat16, "shape": (1, 1, 4, 64)}
    q, v = SimpleNamespace(**facts | change), SimpleNamespace(shape=(1, 1, 8, 64))
    refused = varlen.flash_refusal(q, v)
    if reason is None:
        assert refused is None
    else:
        with pytest.raises(InputError, match=reason):
            varlen.flash(q, None, v, None, None, 16)


@pytest.mark.parametrize(
    ("k", "v", "reason"),
    [
        (torch.zeros(1, 2, 60, 8), torch.zeros(1, 2, 60, 8), "multiple of block_size = 16"),
        (torch.zeros(1, 2, 64, 16)[..., ::2], torch.zeros(1, 2, 64, 8), "expected contiguous caches"),
        (torch.zeros(1, 2, 64, 8), torch.zeros(1, 1, 64, 8).expand(1, 2, 64, 8), "expected contiguous caches"),
        (torch.zeros(2**15, 1, 16, 1), torch.zeros(2**15, 1, 16, 1), "at most 32767 rows"),
    ],
)
def test_caches_that_cannot_be_packed_are_refused(k: torch.Tensor, v: torch.Tensor, reason: str) -> None:
    """Caches whose whole blocks cannot be copied are refused with the reason; none is copied to allow it."""
    B, G, _, D = k.shape
    indices, lengths = torch.zeros(B, G, 1, dtype=torch.int32), torch.ones(B, dtype=torch.int32)
    with pytest.raises(InputError, match=reason):
        varlen.select(varlen.flash_attend, torch.zeros(B, G, 1, D), k, v, indices, lengths, 16)
