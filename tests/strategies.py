"""Drawn shapes and inputs that several tests share."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from nsa.attention.cache import KVCache
from nsa.attention.layer import NsaAttention
from nsa.shapes import NsaShape

CPU = torch.device("cpu")


@st.composite
def shapes(draw: st.DrawFn) -> NsaShape:
    """Small layers whose blocks and window fill within a few dozen tokens."""
    stride = draw(st.sampled_from([1, 2, 4]))
    groups = draw(st.integers(1, 3))
    return NsaShape(
        dim=draw(st.sampled_from([8, 12])),
        heads=groups * draw(st.integers(1, 4)),
        groups=groups,
        head_dim=draw(st.sampled_from([2, 4, 8])),
        value_dim=draw(st.sampled_from([1, 4, 6])),
        cmp_block=stride * draw(st.integers(1, 3)),
        cmp_stride=stride,
        sel_block=stride * draw(st.integers(1, 4)),
        sel_count=draw(st.integers(3, 6)),
        window=draw(st.integers(1, 24)),
        phi=draw(st.sampled_from(["mean", "mlp"])),
    )


def boundaries(shape: NsaShape) -> list[int]:
    """Every S within one of a multiple of l, d, l' or w (and of n blocks), where off-by-one errors live."""
    marks = [shape.cmp_block, shape.cmp_stride, shape.sel_block, shape.window, shape.sel_block * shape.sel_count]
    near = {mark * times + step for mark in marks for times in (1, 2) for step in (-1, 0, 1)}
    return sorted(S for S in near if S >= 1)


def cache(layer: NsaAttention, batch: int, capacity: int, dtype: torch.dtype = torch.float32) -> KVCache:
    """An empty cache on the CPU whose memory holds NaN wherever nothing was written."""
    made = KVCache(layer.shape, batch, capacity, dtype, CPU)
    for tensor in (made.k, made.v, made.k_cmp, made.v_cmp):
        tensor.fill_(torch.nan)
    return made


def float64_weights(layer: NsaAttention) -> dict[str, np.ndarray]:
    """The layer's weights as the oracle takes them."""
    return {name: tensor.double().numpy() for name, tensor in layer.state_dict().items()}
