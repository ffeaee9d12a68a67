"""The places in the caches that the two timed steps write, brought back before each step."""

from __future__ import annotations

import torch

from nsa.attention.cache import KVCache
from nsa.shapes import NsaShape


class Slots:
    """Before a step what it is to write is NaN, and what the other step wrote is as prefill left it, or NaN beyond it.

    So a step that does not write, or writes elsewhere, shows; and each starts from the same caches whichever ran last.

    Args:
        cache: as prefill left it.
        shape: the layer's sizes.
        steps: {emits: tokens after the step}.
    """

    def __init__(self, cache: KVCache, shape: NsaShape, steps: dict[bool, int]) -> None:
        self.places = {
            emits: (step - 1, shape.num_compressed(step) - 1 if emits else None) for emits, step in steps.items()
        }
        self._resets: dict[bool, list[tuple[torch.Tensor, torch.Tensor | None]]] = {}  # a slot, and what it held
        for emits, step in steps.items():
            self._resets[emits] = resets = []
            for token, compressed in self.places.values():
                resets += [slot(tensor, token, step - 1) for tensor in (cache.k, cache.v)]
                if compressed is not None:
                    held = shape.num_compressed(step - 1)
                    resets += [slot(tensor, compressed, held) for tensor in (cache.k_cmp, cache.v_cmp)]

    def reset(self, emits: bool) -> None:
        """Before a step; without waiting for the device."""
        for where, held in self._resets[emits]:
            if held is None:
                where.fill_(torch.nan)
            else:
                where.copy_(held)


def slot(tensor: torch.Tensor, place: int, held: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A token's place in a cache, a view, and what it holds, where it is among the first so many."""
    where = tensor[..., place, :]
    return where, where.clone() if place < held else None
