"""Drawn calls of the selection contract, and attention over unequal sequences as the fused kernels define it."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import strategies as st

from nsa.attention import reference
from nsa.bench.method.inputs import Call, ragged_case
from nsa.kernels.contract import SelectAttention
from nsa.kernels.limits import HEAD_DIMS
from nsa.records.shapes import CheckShape

TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def draw_call(data: st.DataObject, dtype: torch.dtype, whole: bool = False) -> Call:
    """A ragged, padded, poisoned call; `whole`: a capacity of whole blocks."""
    B, G, h = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), data.draw(st.integers(1, 16))
    D, Dv = (data.draw(st.sampled_from(HEAD_DIMS)) for _ in range(2))
    block, n = data.draw(st.sampled_from([16, 32, 64])), data.draw(st.integers(1, 8))
    capacity = block * data.draw(st.integers(1, 6))
    capacity += 0 if whole else data.draw(st.integers(0, block - 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    lengths = data.draw(st.lists(st.integers(0, capacity) | st.integers(0, block), min_size=B, max_size=B))
    q = torch.randn(B, G, h, D, generator=generator).to(dtype)
    k = torch.randn(B, G, capacity, D, generator=generator).to(dtype)
    v = torch.randn(B, G, capacity, Dv, generator=generator).to(dtype)
    indices = torch.full((B, G, n), -1, dtype=torch.int32)
    for b, length in enumerate(lengths):
        k[b, :, length:], v[b, :, length:] = torch.nan, torch.nan
        for g in range(G):
            existing = range(-(-length // block))
            chosen = sorted(data.draw(st.sets(st.sampled_from(existing), max_size=n))) if existing else []
            indices[b, g, : len(chosen)] = torch.tensor(chosen, dtype=torch.int32)
    return Call(q, k, v, indices, torch.tensor(lengths, dtype=torch.int32), block)


def random_call(seed: int, device: torch.device, half: bool = False) -> Call:
    """A ragged, padded, poisoned call of any shape of the contract, drawn from a seed alone."""
    draw = random.Random(seed)
    groups = draw.choice([1, 2, 4])
    dtypes = ["float16", "bfloat16", *([] if half else ["float32"])]
    shape = CheckShape(
        rows=groups * draw.randint(1, 24),
        heads_per_group=draw.randint(1, 16),
        head_dim=draw.choice(HEAD_DIMS),
        value_dim=draw.choice(HEAD_DIMS),
        sel_count=draw.randint(1, 128),
        sel_block=draw.choice([16, 32, 64, 128]),
        context=draw.choice([draw.randint(1, 64), draw.randint(65, 2000)]),
        groups=groups,
        dtype=draw.choice(dtypes),
    )
    return ragged_case(shape, seed, device)


def require_oracle(kernel: SelectAttention, call: Call) -> None:
    """Fail unless the kernel equals the float64 loops, empty rows are exactly zero and the inputs are as before."""
    before = [tensor.clone() for tensor in call[:5]]
    got = kernel(*call)
    numbers = [tensor.double().numpy() for tensor in call[:3]]
    exact = reference.select_attention(*numbers, call[3].numpy(), call[4].numpy(), call[5])
    assert got.dtype == call.q.dtype
    np.testing.assert_allclose(got.double().numpy(), exact, atol=TOLERANCE[call.q.dtype], rtol=0)
    assert (got.double().numpy()[~exact.any(-1)] == 0).all()
    for old, new in zip(before, call[:5], strict=True):
        assert torch.equal(old.view(torch.uint8), new.view(torch.uint8))  # bytes: NaN equals NaN


def unequal_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
    of_nothing: float = 0.0,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention within each sequence, q [T_q, 1, D], k [T_k, 1, D], v [T_k, 1, Dv] -> [T_q, 1, Dv], in float64.

    What lies in a sequence without a query is not touched; what no sequence writes stays NaN; where there is no key,
    every value is `of_nothing`. Scores are divided by √D unless a scale is given.
    """
    assert cu_q.dtype == cu_k.dtype == torch.int32 and len(cu_q) == len(cu_k)
    assert cu_q.is_contiguous() and cu_k.is_contiguous() and q.shape[1] == k.shape[1] == v.shape[1] == 1
    assert cu_q[0] == cu_k[0] == 0 and cu_q[-1] == len(q) and cu_k[-1] <= len(k)
    assert (cu_q.diff() >= 0).all() and cu_q.diff().max() <= max_q
    assert (cu_k.diff() >= 0).all() and cu_k.diff().max() <= max_k
    o = torch.full((len(q), 1, v.shape[-1]), torch.nan, dtype=q.dtype)
    for i in range(len(cu_q) - 1):
        queries, keys = slice(*cu_q[i : i + 2].tolist()), slice(*cu_k[i : i + 2].tolist())
        if queries.start < queries.stop:
            scores = q[queries, 0].double() @ k[keys, 0].double().T * (scale or q.shape[-1] ** -0.5)
            o[queries, 0] = (scores.softmax(-1) @ v[keys, 0].double()).to(q.dtype) if scores.numel() else of_nothing
    return o
