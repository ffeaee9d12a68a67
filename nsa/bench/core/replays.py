"""The inputs of a core's timed replays: each has queries, gates and tokens that none before it had."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from nsa.bench.core.inputs import QUERY, CoreCall, Draw, lean
from nsa.kernels.core import SEL, WIN

CHANGED = 4  # tokens of every cache that a replay has of its own: the newest one, and others that are drawn
NEW = 0.3  # share of a query in the key of a token that is new


class Changes:
    """A call, parts of which are written anew before each timed replay: `of` gives what each replay has.

    Attributes:
        count: of the replays so far; who keeps the output of one counts it.
        places: where in the selected, the window and the compressed cache tokens are new, the same in each replay.
    """

    def __init__(self, call: CoreCall, places: Sequence[torch.Tensor] = ()) -> None:
        self.call, self.count, self.places = call, 0, places

    def of(self, replay: int) -> Sequence[torch.Tensor]:
        """What is new in a replay: queries, gates, and tokens [B, G, places, ..] of each of `caches`."""
        raise NotImplementedError

    @property
    def caches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What is written of, and where: keys before values."""
        call = self.call
        keys, values = (call.k[SEL], call.k[WIN], call.k_cmp), (call.v[SEL], call.v[WIN], call.v_cmp)
        return [(cache, place) for each in (keys, values) for cache, place in zip(each, self.places, strict=True)]

    def apply(self, replay: int) -> None:
        """Write what is new in a replay."""
        q, gates, *tokens = self.of(replay)
        self.call.q.copy_(q)
        self.call.gates.copy_(gates)
        for (cache, place), new in zip(self.caches, tokens, strict=True):
            cache.index_copy_(2, place, new)

    def refresh(self) -> None:
        """Change the inputs for the next replay; the same again for one that is repeated."""
        self.apply(self.count)


class Replays(Changes):
    """Those of the judge, drawn from a seed.

    New keys lean towards the query of one of the row's heads, so that their values move the output by far more than
    rounding: what was kept of an earlier call shows. But for the newest token nobody knows before where they are.

    Args:
        call: filled by `draw`, every sequence as long as its caches.
        draw: of its other tokens.
    """

    def __init__(self, call: CoreCall, draw: Draw) -> None:
        super().__init__(call, [torch.tensor(places, device=call.q.device) for places in _places(call, draw.seed)])
        self._draw = draw

    def of(self, replay: int) -> Sequence[torch.Tensor]:
        (B, G, h, _), call = self.call.q.shape, self.call
        q, generator = self.queries(1, replay)[0], self._generator(replay, 12)
        gates = torch.empty_like(call.gates).normal_(generator=generator).sigmoid_()
        tokens = [
            cache.new_empty(B, G, len(place), cache.shape[3]).normal_(generator=generator)
            for cache, place in self.caches
        ]
        for key in tokens[:3]:
            key.add_(NEW * q[:, :, [place % h for place in range(key.shape[2])]])
        return [q, gates, *tokens]

    def queries(self, count: int, replay: int) -> torch.Tensor:
        """Queries of some replays, of which this is the first: [count, B, G, h, D]."""
        q = self.call.q
        drawn = q.new_empty(count, *q.shape).normal_(generator=self._generator(replay, 13)).mul_(QUERY)
        for each in drawn:
            lean(each, self._draw)
        return drawn

    def _generator(self, replay: int, place: int) -> torch.Generator:
        return torch.Generator(self.call.q.device).manual_seed(16 * (self._draw.seed + replay + 1) + place)


def _places(call: CoreCall, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Of the selected, the window and the compressed cache, the newest first.

    Compressed tokens whose keys lean towards a query draw their block into the selection: there new tokens of the
    selected branch are, one below each of them.
    """
    drawn, sizes = random.Random(f"{seed}/places"), call.sizes
    S, M = call.k[SEL].shape[2], call.k_cmp.shape[2]
    compressed = drawn.sample(range(M - 1), min(CHANGED, M) - 1)
    below = {place * sizes.cmp_stride + drawn.randrange(sizes.cmp_stride) for place in compressed}
    seen = range(S - min(max(sizes.window, 1), S), S - 1)
    window = drawn.sample(seen, min(CHANGED - 1, len(seen)))
    return [S - 1, *sorted(below - {S - 1})], [S - 1, *window], [M - 1, *compressed]
