"""Corner cases of several calls: what one leaves behind must not reach another."""

from __future__ import annotations

from nsa.bench.check.corners.draw import Draw, Drawn

# Sequences of the two cases, and of no other case and no usual grid: no call of these sizes came before.
LARGE_SMALL, SMALL_LARGE = 7, 11


def large_before_small(draw: Draw) -> list[Drawn]:
    """A call on long caches, then one on short caches, all other sizes alike."""
    return [draw.full(LARGE_SMALL), _small(draw, LARGE_SMALL)]


def small_before_large(draw: Draw) -> list[Drawn]:
    """The other way round."""
    return [_small(draw, SMALL_LARGE), draw.full(SMALL_LARGE)]


def two_calls(draw: Draw) -> list[Drawn]:
    """Two calls of the same sizes."""
    return [draw.full(), draw.full()]


def _small(draw: Draw, batch: int) -> Drawn:
    return draw.full(batch, context=max(draw.base.sel_block, draw.base.context // 3))
