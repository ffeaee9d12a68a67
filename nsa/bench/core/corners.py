"""Corner cases of a decode core, untimed: sizes and values off the grid (docs/core_check.md)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import torch

from nsa.bench.core.inputs import CoreCall, Draw, allocate, fill, unselected
from nsa.bench.core.judge import judge
from nsa.bench.core.remote import BoundCore, RemoteCore
from nsa.bench.core.subject import bound
from nsa.bench.method.core_oracle import core_oracle
from nsa.errors import InputError, KernelFailed
from nsa.kernels.core import Core
from nsa.records.shapes import CoreShape
from nsa.records.words import COMPOSED, FAILED, REFUSED, Row

BATCH, CONTEXT = 3, 1200  # of a case that asks for no others: more blocks than n


@dataclass(frozen=True)
class Corner:
    """One case.

    Attributes:
        sizes: in which it differs from the grid's first shape.
        lengths: of the sequences; none: the first is as long as the caches, the others are drawn.
        keys, scale, alike: see Draw.
        stacked: whether a cache's three branches are one tensor.
        again: lengths of a second call into the same memory.
    """

    sizes: Mapping[str, int | str] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
    keys: str = "noise"
    scale: float = 1.0
    alike: bool = False
    stacked: bool = False
    again: tuple[int, ...] = ()


def _sizes(**sizes: int | str) -> Corner:
    return Corner(sizes)


CORNERS: dict[str, Corner] = {
    **{f"h = {h}": _sizes(heads_per_group=h) for h in (1, 3, 5, 16)},
    "one group": _sizes(groups=1),
    "one sequence": _sizes(batch=1),
    "D < Dv": _sizes(head_dim=64, value_dim=128),
    "D > Dv": _sizes(head_dim=128, value_dim=64),
    "D = Dv = 32": _sizes(head_dim=32, value_dim=32),
    "D = Dv = 256": _sizes(head_dim=256, value_dim=256),
    "n = 3": _sizes(sel_count=3),
    "n = 7": _sizes(sel_count=7),
    "n = 33": _sizes(sel_count=33),
    "l' = 32": _sizes(sel_block=32),
    "l' = 128": _sizes(sel_block=128),
    "l = d": _sizes(cmp_block=16),
    "l = 4 d": _sizes(cmp_block=64),
    "d = 8": _sizes(cmp_stride=8),
    "w = 0": _sizes(window=0),
    "w = 1": _sizes(window=1),
    "w beyond the caches": _sizes(window=4096),
    "float16": _sizes(dtype="float16"),
    "queries x 8": Corner(scale=8),
    "queries x 30": Corner(scale=30),
    "queries x 30, one sequence": Corner({"batch": 1}, scale=30),  # a core may go another way with other batches
    "queries x 30, many sequences": Corner({"batch": 20}, scale=30),
    "blocks of equal importance": Corner(alike=True, lengths=(1200, 1152, 1090)),
    "fewer blocks than n": Corner(lengths=(960, 130, 64)),
    "no compressed token": Corner(lengths=(31, 1, 17)),
    "no token": Corner(lengths=(1200, 0, 1)),
    "borders of blocks": Corner(lengths=(1024, 1025, 1087)),
    "topics": Corner(keys="topics"),
    "sinks": Corner(keys="sinks"),
    "caches in one tensor": Corner(stacked=True),
    "shorter, then longer": Corner(lengths=(40, 300, 9), again=(1200, 31, 700)),
}


def corner_rows(
    name: str, core: RemoteCore, composed: Core, base: CoreShape, seed: int, device: torch.device
) -> list[Row]:
    """Every corner case of a core, beside the composed core on the same inputs: rows of schemas.CORE, one a call.

    Args:
        name: of the backend.
        core: its core.
        composed: the composed core, whose error in the same dtype is allowed for.
        base: the first shape of the grid.
        seed: of all that is drawn, kept in the rows.
        device: of all tensors.

    Raises:
        KernelFailed: the device failed, or the composed core did.
    """
    rows: list[Row] = []
    base = replace(base, batch=BATCH, context=CONTEXT)
    for case, corner in CORNERS.items():
        shape = replace(base, **corner.sizes)  # type: ignore[arg-type]  # each is of its field's type
        columns: Row = {**asdict(shape), "process": 0, "backend": name, "case": case, "seed": seed, "keys": corner.keys}
        drawn = random.Random(f"{seed}/{case}")
        lengths = corner.lengths or (CONTEXT, *(drawn.randint(1, CONTEXT) for _ in range(1, shape.batch)))
        call = allocate(shape, device)
        if corner.stacked:
            call = _stacked(call)
        with core.bound(call) as mine:
            for tokens in (lengths, corner.again) if corner.again else (lengths,):
                draw = Draw(corner.keys, drawn.randrange(2**40), tokens, corner.scale, corner.alike)
                rows.append({**columns, **_called(mine, composed, call, draw)})
    return rows


def _called(mine: BoundCore, composed: Core, call: CoreCall, draw: Draw) -> Row:
    """What one call says: two calls on the same inputs into poisoned memory, judged."""
    fill_unseen(call, draw)
    run, blocks = bound(COMPOSED, composed, call)
    right = judge(call, run(), blocks, tied=draw.alike)
    mine.give()
    try:
        gave = mine.once()
    except InputError as refusal:
        return {"fault": f"{REFUSED}{refusal}"}
    except KernelFailed as error:
        if error.__cause__ is None or isinstance(error.__cause__, torch.AcceleratorError):
            raise
        return {"fault": f"{FAILED}{error}"}
    fault = mine.changed()
    found = judge(call, *gave, tied=draw.alike)
    return {"error": found.error, "composed_error": right.error, "fault": fault or found.fault}


def fill_unseen(call: CoreCall, draw: Draw) -> None:
    """Write a draw, with NaN in the blocks that no right core selects."""
    fill(call, draw)
    if not draw.alike:
        importance = core_oracle(*call._replace(parts=replace(call.parts, sel=False, win=False))).importance
        fill(call, draw, unselected(importance, draw.lengths, call.sizes))


def _stacked(call: CoreCall) -> CoreCall:
    """The same call with the three branches of each cache in one tensor; the compressed branch's are NaN."""
    return call._replace(k=torch.stack(list(call.k)), v=torch.stack(list(call.v)))
