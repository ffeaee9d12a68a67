"""What a core gives on each corner case, untimed, judged (docs/core_check.md)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from nsa.bench.core.corner_cases import CORNERS, Corner
from nsa.bench.core.inputs import CoreCall, Draw, allocate, fill, unselected
from nsa.bench.core.judge import differ, judge
from nsa.bench.core.remote import BoundCore, RemoteCore
from nsa.bench.core.subject import bound
from nsa.bench.method.core_oracle import core_oracle
from nsa.errors import InputError, KernelFailed
from nsa.kernels.core import SEL, WIN, Core
from nsa.records.shapes import CoreShape
from nsa.records.words import COMPOSED, FAILED, REFUSED, Row

TAKES_THE_GRID = "it takes the grid and refuses this call: "
BATCH, CONTEXT = 3, 1200  # of a case that asks for no others: more blocks than n


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
        drawn = random.Random(f"{seed}/{case}")
        sizes = {**corner.sizes, **(corner.drawn(drawn) if corner.drawn else {})}
        shape = replace(base, **sizes)  # type: ignore[arg-type]  # each is of its field's type
        lengths = corner.lengths(shape) if callable(corner.lengths) else corner.lengths or _lengths(shape, drawn)
        shape = replace(shape, batch=len(lengths))
        columns: Row = {**asdict(shape), "process": 0, "backend": name, "case": case, "seed": seed, "keys": corner.keys}
        call = allocate(shape, device)._replace(parts=corner.parts)
        call = corner.lay(call) if corner.lay else call
        if not corner.parts.route:
            give_blocks(call, lengths, drawn)
        with core.bound(call) as mine:
            for tokens in (lengths, corner.again) if corner.again else (lengths,):
                draw = _draw(corner, drawn.randrange(2**40), tokens)
                rows.append({**columns, **_called(mine, composed, call, draw, corner)})
    return rows


def _lengths(shape: CoreShape, drawn: random.Random) -> tuple[int, ...]:
    """The first sequence is as long as the caches; of the others some are nearly so, and have more blocks than n."""
    S = shape.context
    return (S, *(drawn.randint(drawn.choice((1, S - S // 10)), S) for _ in range(1, shape.batch)))


def _draw(corner: Corner, seed: int, lengths: tuple[int, ...]) -> Draw:
    return Draw(corner.keys, seed, lengths, corner.scale, corner.alike, corner.beyond, corner.offset, corner.gates)


def _called(mine: BoundCore, composed: Core, call: CoreCall, draw: Draw, corner: Corner) -> Row:
    """What two calls on the same inputs into poisoned memory say: the first one is judged."""
    fill_unseen(call, draw)
    run, blocks, _ = bound(COMPOSED, composed, call)
    right = judge(call, run(), blocks, tied=draw.alike)
    mine.give()
    try:
        gave, again = mine.once(), mine.once()
    except InputError as refusal:
        return {"fault": f"{TAKES_THE_GRID if corner.taken else REFUSED}{refusal}"}
    except KernelFailed as error:
        if error.__cause__ is None or isinstance(error.__cause__, torch.AcceleratorError):
            raise
        return {"fault": f"{FAILED}{error}"}
    found = judge(call, *gave, tied=draw.alike)
    fault = mine.changed() or found.fault or ("two calls on the same inputs differ" if differ(gave, again) else None)
    return {"error": found.error, "composed_error": right.error, "fault": fault}


def fill_unseen(call: CoreCall, draw: Draw) -> None:
    """Write a draw, with NaN in the blocks that no right core selects, and in the caches of parts that are off."""
    fill(call, draw)
    if not call.parts.route:
        fill(call, draw, _not_given(call))
    elif not draw.alike:
        importance = core_oracle(*call._replace(parts=replace(call.parts, sel=False, win=False))).importance
        fill(call, draw, unselected(importance, draw.lengths, call.sizes))
    parts = call.parts
    for branch, on in ((SEL, parts.sel), (WIN, parts.win)):
        if not on:
            call.k[branch].fill_(torch.nan), call.v[branch].fill_(torch.nan)
    if not parts.cmp:
        call.k_cmp.fill_(torch.nan), call.v_cmp.fill_(torch.nan)


def give_blocks(call: CoreCall, lengths: Sequence[int], drawn: random.Random) -> None:
    """Write blocks for the selected branch: as routing gives them, but of any choice."""
    call.block_indices.fill_(-1)
    for b, S in enumerate(lengths):
        blocks = call.sizes.num_blocks(S)
        for g in range(call.q.shape[1]):
            some = sorted(drawn.sample(range(blocks), min(call.sizes.sel_count, blocks)))
            call.block_indices[b, g, : len(some)] = torch.tensor(some, dtype=torch.int32)


def _not_given(call: CoreCall) -> torch.Tensor:
    """[B, G, S_blk]: blocks that are not among the given ones."""
    block = torch.arange(call.sizes.num_blocks(call.k[SEL].shape[2]), device=call.q.device)
    return ~(call.block_indices[..., None] == block).any(2)
