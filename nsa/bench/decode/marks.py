"""Whether the caches are still what prefill left: an arm that changes them would be judged by what it made of them."""

from __future__ import annotations

import torch

from nsa.attention.cache import KVCache

BITS = {2: torch.int16, 4: torch.int32}  # by the bytes of a number


def marks(cache: KVCache) -> list[torch.Tensor]:
    """Of each tensor of the caches, the sum of each token's bits."""
    found = []
    for tensor in (cache.k, cache.v, cache.k_cmp, cache.v_cmp):
        others = [dim for dim in range(tensor.dim()) if dim != tensor.dim() - 2]
        found.append(tensor.view(BITS[tensor.itemsize]).sum(others, dtype=torch.int64))
    return found
