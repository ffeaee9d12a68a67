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
                for place, held, tensors in (
                    (token, step - 1, (cache.k, cache.v)),
                    (compressed, shape.num_compressed(step - 1), (cache.k_cmp, cache.v_cmp)),
                ):
                    if place is None:
                        continue
                    for tensor in tensors:
                        slot = tensor[..., place, :]
                        resets.append((slot, slot.clone() if place < held else None))

    def reset(self, emits: bool) -> None:
        """Before a step; without waiting for the device."""
        for slot, held in self._resets[emits]:
            if held is None:
                slot.fill_(torch.nan)
            else:
                slot.copy_(held)
