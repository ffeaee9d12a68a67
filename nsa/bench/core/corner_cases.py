"""The corner cases of a decode core, by the names that a record has: sizes, memory, parts and values off the grid."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nsa.bench.core.inputs import LOW, NUMBERS, SMALL, TAIL, WHOLE
from nsa.bench.core.memory import Lay, apart, more_room, stacked, tokens_first
from nsa.kernels.core import EVERY_PART, Parts
from nsa.kernels.limits import HEAD_DIMS
from nsa.records.shapes import CoreShape
from nsa.shapes import MAX_HEADS_PER_GROUP

Drawn = Mapping[str, int | str]  # sizes by name
Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Corner:
    """One case.

    Attributes:
        sizes: in which it differs from the grid's first shape with few sequences and tokens.
        drawn: more of them, which nobody knows before.
        lengths: of the sequences, or what gives them of the sizes, a sequence each; none: the first is as long as the
            caches, the others are drawn.
        keys, scale, alike, beyond, offset, gates: see nsa.bench.core.inputs.Draw.
        lay: lays its tensors in memory in another way.
        parts: that run; those that are off have NaN in their caches.
        again: lengths of a second call into the same memory.
    """

    sizes: Drawn = field(default_factory=dict)
    drawn: Callable[[random.Random], Drawn] | None = None
    lengths: Lengths | Callable[[CoreShape], Lengths] = ()
    keys: str = "noise"
    scale: float = 1.0
    alike: bool = False
    beyond: str = "nan"
    offset: float = 0.0
    gates: str = ""
    lay: Lay | None = None
    parts: Parts = EVERY_PART
    again: Lengths = ()

    @property
    def taken(self) -> bool:
        """Whether a core that takes the grid must take it, too: its sizes and strides are like the grid's."""
        return {*self.sizes} <= {"batch", "context"} and self.drawn is None and self.lay in (None, stacked)


def _sizes(**sizes: int | str) -> Corner:
    return Corner(sizes)


def _any_sizes(draw: random.Random) -> Drawn:
    """Sizes of the whole contract, from a draw."""
    stride = draw.choice((4, 8, 16, 16))
    return {
        "batch": draw.randint(1, 5),
        "groups": draw.choice((1, 2, 3, 4, 6)),
        "heads_per_group": draw.randint(1, MAX_HEADS_PER_GROUP),
        "head_dim": draw.choice(HEAD_DIMS),
        "value_dim": draw.choice(HEAD_DIMS),
        "context": draw.randint(600, 1500),
        "cmp_stride": stride,
        "cmp_block": stride * draw.choice((1, 2, 3, 5)),
        "sel_block": stride * draw.choice((1, 2, 3, 4)),
        "sel_count": draw.choice((3, 4, 5, 8, 12, 16, 24)),
        "window": draw.choice((0, 1, 100, 512, 1000)),
    }


def _borders(shape: CoreShape) -> Lengths:
    """One token below, at and above whatever a core may compare a length with; none is longer than the caches."""
    l, d, size, n = shape.cmp_block, shape.cmp_stride, shape.sel_block, shape.sel_count
    at = (d, l, l + d, size, 2 * size, 3 * size, n * size, (n + 1) * size, shape.window)
    near = {each + by for each in at for by in (-1, 0, 1)}
    return (shape.context, *sorted(each for each in near if 0 <= each < shape.context))


MANY_BLOCKS: Drawn = {
    "batch": 1,
    "groups": 1,
    "heads_per_group": 4,
    "head_dim": 32,
    "value_dim": 32,
    "cmp_block": 4,
    "cmp_stride": 4,
    "sel_block": 4,
    "context": 4 * (2**15 + 300),
}
OF_SIZES: dict[str, Corner] = {
    **{f"h = {h}": _sizes(heads_per_group=h) for h in (1, 3, 5, 16)},
    "one group": _sizes(groups=1),
    "three groups": _sizes(groups=3),
    "one sequence": _sizes(batch=1),
    "many sequences": _sizes(batch=80, context=300, sel_count=4),
    "D < Dv": _sizes(head_dim=64, value_dim=128),
    "D > Dv": _sizes(head_dim=128, value_dim=64),
    **{f"D = Dv = {D}": _sizes(head_dim=D, value_dim=D) for D in HEAD_DIMS},
    "n = 3": _sizes(sel_count=3),
    "n = 7": _sizes(sel_count=7),
    "n = 33": _sizes(sel_count=33, sel_block=16),
    "n = 128": _sizes(sel_count=128, sel_block=16, context=2400),
    "n above the blocks": _sizes(sel_count=33),
    "l' = 32": _sizes(sel_block=32),
    "l' = 128": _sizes(sel_block=128, sel_count=5),
    "l' = 5 d": _sizes(sel_block=80, sel_count=8),
    "l = d": _sizes(cmp_block=16),
    "l = 3 d": _sizes(cmp_block=48),
    "l = 4 d": _sizes(cmp_block=64),
    "l beyond l'": _sizes(cmp_block=80, sel_block=32),
    "d = 8": _sizes(cmp_stride=8),
    "w = 0": _sizes(window=0),
    "w = 1": _sizes(window=1),
    "w beyond the caches": _sizes(window=4096),
    "caches below l": _sizes(context=20),
    "blocks beyond 2^15": Corner(MANY_BLOCKS),
    **{f"in {dtype}": _sizes(dtype=dtype) for dtype in ("float16", "bfloat16", "float32")},
    **{f"sizes that are drawn, {which}": Corner(drawn=_any_sizes) for which in ("one", "two", "three", "four")},
}
OF_MEMORY: dict[str, Corner] = {
    "caches in one tensor": Corner(lay=stacked),
    "caches as [B, S, G, D]": Corner(lay=tokens_first),
    "queries and gates apart": Corner(lay=apart("q", "gates")),
    "caches apart": Corner(lay=apart("k", "v", "k_cmp", "v_cmp")),
    "values apart": Corner(lay=apart("v", "v_cmp")),
    "more room than compressed tokens": Corner(lay=more_room),
}
OF_PARTS: dict[str, Corner] = {  # those of the decode cell's arms, and the step whose blocks are given
    "without sel": Corner(parts=Parts(sel=False)),
    "cmp alone": Corner(parts=Parts(route=False, sel=False, win=False)),
    "cmp and route": Corner(parts=Parts(sel=False, win=False)),
    "sel alone": Corner(parts=Parts(cmp=False, route=False, win=False)),
    "win alone": Corner(parts=Parts(cmp=False, route=False, sel=False)),
    "blocks that are given": Corner(parts=Parts(route=False)),
}
OF_VALUES: dict[str, Corner] = {
    "queries x 8": Corner(scale=8),
    "queries x 30": Corner(scale=30),
    "queries x 30, one sequence": Corner({"batch": 1}, scale=30),  # a core may go another way with other batches
    "queries x 30, many sequences": Corner({"batch": 20}, scale=30),
    "queries x 0.001, many sequences": Corner({"batch": 20}, scale=0.001),  # all blocks are nearly as important
    "blocks of equal importance": Corner(alike=True, lengths=(1200, 1152, 1090)),
    "low scores": Corner(keys=LOW),
    "tail of small probabilities": Corner(keys=TAIL, lengths=(1040, 1000, 970)),
    "topics": Corner(keys="topics"),
    "sinks": Corner(keys="sinks"),
    "gates near 0": Corner(gates=SMALL),
    "gates of 0 and 1": Corner(gates=WHOLE),
    "large values in float16": Corner({"dtype": "float16"}, scale=0.003, offset=1000.0),
}
OF_LENGTHS: dict[str, Corner] = {
    "fewer blocks than n": Corner(lengths=(960, 130, 64)),
    "no compressed token": Corner(lengths=(31, 1, 17)),
    "no token": Corner(lengths=(1200, 0, 1)),
    "no token anywhere": Corner(lengths=(0, 0, 0)),
    "borders of blocks": Corner(lengths=(1024, 1025, 1087)),
    "borders of all sizes": Corner(lengths=_borders),
    "infinity beyond the lengths": Corner(beyond="inf", lengths=(1183, 500, 77)),
    "numbers beyond the lengths": Corner(beyond=NUMBERS, lengths=(1183, 500, 77)),
    "shorter, then longer": Corner(lengths=(40, 300, 9), again=(1200, 31, 700)),
    "longer, then shorter": Corner(lengths=(1200, 700, 1100), again=(31, 100, 1090)),
}
CORNERS = OF_SIZES | OF_MEMORY | OF_PARTS | OF_VALUES | OF_LENGTHS
