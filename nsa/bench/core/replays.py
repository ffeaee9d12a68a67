"""The inputs of a core's timed replays: each has queries, gates and newest tokens that none before it had."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nsa.bench.core.inputs import QUERY, CoreCall, Draw, lean
from nsa.kernels.core import SEL, WIN

NEWEST = 0.3  # share of a query in the key of the newest token of a timed call


class Changes:
    """A call, parts of which are written anew before each timed replay: `of` gives what each replay has.

    Attributes:
        count: of the replays so far; who keeps the output of one counts it.
    """

    def __init__(self, call: CoreCall) -> None:
        self.call, self.count = call, 0

    def of(self, replay: int) -> Sequence[torch.Tensor]:
        """What is new in a replay, in the order of `targets`: the same whenever it is asked."""
        raise NotImplementedError

    def targets(self) -> list[torch.Tensor]:
        """What is written: queries, gates, and the newest token of every cache, keys before values."""
        call = self.call
        caches = (call.k[SEL], call.k[WIN], call.k_cmp, call.v[SEL], call.v[WIN], call.v_cmp)
        return [call.q, call.gates, *(cache[:, :, -1] for cache in caches)]

    def apply(self, replay: int) -> None:
        """Write what is new in a replay."""
        for target, new in zip(self.targets(), self.of(replay), strict=True):
            target.copy_(new)

    def refresh(self) -> None:
        """Change the inputs for the next replay; the same again for one that is repeated."""
        self.apply(self.count)


class Replays(Changes):
    """Those of the judge, drawn from a seed.

    The newest token of the selected and the window cache, and the newest compressed one, lean towards the row's first
    query, so that their values move the output by far more than rounding: what was kept of an earlier call shows.

    Args:
        call: filled by `draw`, every sequence as long as its caches.
        draw: of its other tokens.
    """

    def __init__(self, call: CoreCall, draw: Draw) -> None:
        super().__init__(call)
        self._draw = draw

    def of(self, replay: int) -> Sequence[torch.Tensor]:
        q, generator = self.queries(1, replay)[0], self._generator(replay, 12)
        new = [torch.empty_like(target).normal_(generator=generator) for target in self.targets()[1:]]
        new[0].sigmoid_()
        for key in new[1:4]:
            key.add_(NEWEST * q[:, :, 0])
        return [q, *new]

    def queries(self, count: int, replay: int) -> torch.Tensor:
        """Queries of some replays, of which this is the first: [count, B, G, h, D]."""
        q = self.call.q
        drawn = q.new_empty(count, *q.shape).normal_(generator=self._generator(replay, 13)).mul_(QUERY)
        for each in drawn:
            lean(each, self._draw)
        return drawn

    def _generator(self, replay: int, place: int) -> torch.Generator:
        return torch.Generator(self.call.q.device).manual_seed(16 * (self._draw.seed + replay + 1) + place)
