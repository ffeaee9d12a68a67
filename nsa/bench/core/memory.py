"""Ways in which the tensors of a core's call may lie in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nsa.bench.core.inputs import CoreCall
from nsa.kernels.core import CMP, SEL, WIN, Cache

PADDING = 8  # numbers that keep strides apart; kernels may ask for multiples of 16 bytes
ROOM = 5  # compressed tokens that no length reaches

Lay = Callable[[CoreCall], CoreCall]  # the same call with nothing in it, whose tensors lie in another way


def stacked(call: CoreCall) -> CoreCall:
    """The three branches of each cache in one tensor; the compressed branch's are NaN."""
    return call._replace(k=torch.stack(list(call.k)), v=torch.stack(list(call.v)))


def tokens_first(call: CoreCall) -> CoreCall:
    """Caches of the layout [B, S, G, D]."""
    return _changed(call, ("k", "v", "k_cmp", "v_cmp"), lambda cache: cache.new_empty(_swapped(cache)).transpose(1, 2))


def apart(*names: str) -> Lay:
    """The vectors of the last dimension of some arguments in wider rows of NaN."""

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        width = tensor.shape[-1]
        return tensor.new_full((*tensor.shape[:-1], 2 * width + 2 * PADDING), torch.nan)[..., PADDING : PADDING + width]

    return lambda call: _changed(call, names, wide)


def more_room(call: CoreCall) -> CoreCall:
    """Room for more compressed tokens than the caches' tokens have."""

    def longer(cache: torch.Tensor) -> torch.Tensor:
        B, G, M, D = cache.shape
        return cache.new_empty(B, G, M + ROOM, D)

    return _changed(call, ("k_cmp", "v_cmp"), longer)


def _swapped(cache: torch.Tensor) -> tuple[int, ...]:
    B, G, S, D = cache.shape
    return B, S, G, D


def _changed(call: CoreCall, names: tuple[str, ...], lay: Callable[[torch.Tensor], torch.Tensor]) -> CoreCall:
    """A call with some arguments anew; of a cache those of the branches that are read."""

    def anew(given: Cache) -> Cache:
        return lay(given) if isinstance(given, torch.Tensor) else (given[CMP], lay(given[SEL]), lay(given[WIN]))

    anew_all = {name: anew(getattr(call, name)) for name in names}
    return call._replace(**anew_all)  # type: ignore[arg-type]  # each is of its field's type
