"""What prefill left in the caches, held against float64 at places that are spread over the sequence."""

from __future__ import annotations

import torch

from nsa.bench.decode.errors import Errors, worst
from nsa.bench.decode.exact import CMP, Caches, Weights, compress, project
from nsa.shapes import NsaShape

PLACES = 64  # tokens, and compressed tokens, that are judged in each sequence, the first and the last among them


class Sample:
    """The hidden states of some tokens, collected while the caches are filled.

    Args:
        length: tokens of each sequence.
    """

    def __init__(self, length: int, device: torch.device) -> None:
        self._token = spread_over(length, device)
        self._x: list[torch.Tensor] = []

    def take(self, start: int, x: torch.Tensor) -> None:
        """Hidden states x [B, T, dim] of the tokens from start on, chunk after chunk."""
        here = self._token[(self._token >= start) & (self._token < start + x.shape[1])]
        self._x.append(x[:, here - start])

    def errors(self, weights: Weights, caches: Caches, shape: NsaShape, length: int) -> Errors:
        """The worst relative error of keys, values and compressed tokens, by name; the caches as prefill left them."""
        x = torch.cat(self._x, 1)
        _, k, v = project(weights, x, shape, self._token.expand(len(x), -1))
        found = {}
        for name, cache, exact in (("key", caches.k, k), ("value", caches.v, v)):
            found[f"prefilled {name}"] = worst(cache[..., self._token, :], exact.permute(2, 0, 3, 1, 4))
        if M := shape.num_compressed(length):
            place = spread_over(M, x.device)
            token = place[:, None] * shape.cmp_stride + torch.arange(shape.cmp_block, device=x.device)
            for name, source, cache in (("k", caches.k, caches.k_cmp), ("v", caches.v, caches.v_cmp)):
                exact = compress(source[CMP][:, :, token], weights, f"compress_{name}", shape.phi)
                found[f"prefilled {name}_cmp"] = worst(cache[:, :, place], exact)
        return found


def spread_over(count: int, device: torch.device) -> torch.Tensor:
    """At most PLACES of so many places, the first and the last among them."""
    return torch.linspace(0, count - 1, min(PLACES, count), device=device).round().long().unique()
