"""Corner cases of several calls: what one leaves behind must not reach another."""

from __future__ import annotations

from nsa.bench.check.corners.draw import Draw, Drawn


def large_before_small(draw: Draw) -> list[Drawn]:
    """A call on long caches, then one on short caches, all other sizes alike."""
    return [draw.full(), _small(draw)]


def small_before_large(draw: Draw) -> list[Drawn]:
    """The other way round."""
    return [_small(draw), draw.full()]


def two_calls(draw: Draw) -> list[Drawn]:
    """Two calls of the same sizes."""
    return [draw.full(), draw.full()]


def _small(draw: Draw) -> Drawn:
    return draw.full(context=max(draw.base.sel_block, draw.base.context // 3))
