"""The arms of a decode cell: subsets of one step whose differences are the columns of the result."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.attention.layer import Parts
from nsa.shapes import NsaShape


@dataclass(frozen=True)
class Arm:
    """One arm: what runs, and whether the block indices come frozen from a full step instead of from routing."""

    parts: Parts
    frozen: bool = False


NOTHING = Parts(cmp=False, route=False, sel=False, win=False)

# ms_sel = T(sel) - T(none), ms_sel_loo = T(all) - T(all_without_sel), and so on.
ARMS = {
    "none": Arm(NOTHING),
    "cmp": Arm(Parts(route=False, sel=False, win=False)),
    "cmp_route": Arm(Parts(sel=False, win=False)),
    "sel": Arm(Parts(cmp=False, route=False, win=False), frozen=True),
    "win": Arm(Parts(cmp=False, route=False, sel=False)),
    "all": Arm(Parts()),
    "all_without_sel": Arm(Parts(sel=False)),
    "all_again": Arm(Parts()),  # the A/A control: the same arm under another name
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
