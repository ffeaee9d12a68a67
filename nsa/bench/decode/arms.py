"""The arms of a decode cell: subsets of one step whose differences are the columns of the result."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.kernels.core import Parts
from nsa.records import words
from nsa.shapes import NsaShape


@dataclass(frozen=True)
class Arm:
    """One arm: what runs, and whether the block indices come frozen from a full step instead of from routing."""

    parts: Parts
    frozen: bool = False


# ms_sel = T(sel) - T(none), ms_sel_loo = T(all) - T(all_without_sel), and so on.
ARMS = {
    name: Arm(Parts(**{part: part in running for part in words.STEP}), "sel" in running and "route" not in running)
    for name, running in words.ARMS.items()
}


def emission(shape: NsaShape, S: int) -> tuple[dict[bool, int], float]:
    """The steps that stand for S: {emits: S'}, and the weight of the emitting one.

    A compressed token is added every d steps, so the step at S and its nearest neighbour that differs in emitting are
    weighted 1/d and 1 - 1/d. Before the first block is full nothing ever emits, and with d = 1 every step does.
    """
    if S < shape.cmp_block:
        return {False: S}, 0.0
    if shape.cmp_stride == 1:
        return {True: S}, 1.0
    distance = (S - shape.cmp_block) % shape.cmp_stride
    if distance == 0:
        return {True: S, False: S - 1}, 1 / shape.cmp_stride
    ahead = shape.cmp_stride - distance
    return {True: S - distance if distance <= ahead else S + ahead, False: S}, 1 / shape.cmp_stride
