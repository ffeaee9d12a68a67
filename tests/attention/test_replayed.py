"""One captured step through a composed core serves all lengths."""

from __future__ import annotations

import pytest
import torch

from nsa.attention.composition import compose
from nsa.kernels.sdpa.packed import gather
from nsa.shapes import NsaShape


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_2000_tokens_by_replays_of_one_graph(dtype: torch.dtype) -> None:
    """From an empty cache: outputs, blocks, caches and lengths are those of float64 steps."""
    from replayed import replay_faults  # imports triton, which a CPU may not have

    assert replay_faults(compose(gather), NsaShape(sel_count=8), dtype, 2000, 2) == []
