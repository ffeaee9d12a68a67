"""Decode cores that are wrong, each in a way of its own, and what a core check says of it.

Each is the composed core but for one thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from wrong_cores_kept import RIGHT, Baked, Longest, Memo, Noisy, Packed, PackedBehind, arguments

from nsa.kernels.core import CMP, SEL, Core


def of(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Core:
    """The right core on changed arguments."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        return RIGHT(**{**call, **change(call)})

    return core


def after(change: Callable[[dict[str, Any]], None]) -> Core:
    """The right core, and then a change of what it wrote or was given."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        out = RIGHT(**call)
        change(call)
        return out

    return core


def last_tie(call: dict[str, Any]) -> dict[str, Any]:
    """Importance that grows a little with the block: of equal ones the last wins."""
    step = 1e-6 * torch.arange(call["k_cmp"].shape[2], device=call["q"].device, dtype=torch.float32)
    lean = call["q"].mean((1, 2))[:, None, None]  # [B, 1, 1, D]
    unit = lean / lean.square().sum(-1, keepdim=True).clamp(min=1e-6)
    return {"k_cmp": (call["k_cmp"].float() + step[:, None] * unit).to(call["k_cmp"].dtype)}


def swapped(call: dict[str, Any]) -> None:
    """Blocks that do not ascend."""
    blocks = call["block_indices"]
    blocks.copy_(torch.where((blocks >= 0).all(-1, keepdim=True), blocks.flip(-1), blocks))


def next_best(call: dict[str, Any]) -> dict[str, Any]:
    """Another block than the best: the probabilities of one head alone decide."""
    return {"q": call["q"][:, :, :1].expand_as(call["q"])}


def wrong_blocks(*given: Any) -> torch.Tensor:
    """Route by the first head alone, then attend to those blocks."""
    call = arguments(*given)
    RIGHT(**{**call, **next_best(call)})
    off = type(call["parts"])(route=False)
    return RIGHT(**{**call, "parts": off})


def attends_to_others(*given: Any) -> torch.Tensor:
    """Names the best blocks, and attends to those of the first head."""
    call = arguments(*given)
    RIGHT(**call)
    best = call["block_indices"].clone()
    out = wrong_blocks(*given)
    call["block_indices"].copy_(best)
    return out


def names_others(*given: Any) -> torch.Tensor:
    """Attends to the best blocks, and names those of the first head."""
    call = arguments(*given)
    right = RIGHT(**{**call, "out": None})
    result: torch.Tensor = wrong_blocks(*given).copy_(right)
    return result


def reads_raw_keys(*given: Any) -> torch.Tensor:
    """A raw key of the compressed branch, times a weight of zero."""
    call = arguments(*given)
    return RIGHT(**call).add_(0 * call["k"][CMP][:, :, :1, :1])


def reads_beyond(*given: Any) -> torch.Tensor:
    """A value beyond the length, times a weight of zero."""
    call = arguments(*given)
    out = RIGHT(**call)
    return out.add_(0 * call["v"][SEL][:, :, -1:, :])


def reads_unselected(*given: Any) -> torch.Tensor:
    """Every value of the selected branch's cache up to the length, times a weight of zero."""
    call = arguments(*given)
    out = RIGHT(**call)
    token = torch.arange(call["v"][SEL].shape[2], device=out.device)
    there = (token < call["seq_lens"][:, None])[:, None, :, None]
    return out.add_(0 * torch.where(there, call["v"][SEL], 0).sum(2, keepdim=True))


def forgets_out(*given: Any) -> torch.Tensor:
    """A tensor of its own."""
    return RIGHT(**{**arguments(*given), "out": None})


def behind(name: str) -> Core:
    """One number more than there is room for, where the memory behind is its process's."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        out, written = RIGHT(**call), call[name]
        end = written.storage_offset() + written.numel()
        if end * written.itemsize < written.untyped_storage().nbytes():
            written.as_strided((1,), (1,), end).fill_(0)
        return out

    return core


def half_written(*given: Any) -> torch.Tensor:
    """All heads but the last."""
    call = arguments(*given)
    out = call["out"]
    kept = out[:, :, -1].clone()
    RIGHT(**call)
    out[:, :, -1] = kept
    return out


def gate_of(branch: int, value: float) -> Core:
    """One gate that is not read."""

    def change(call: dict[str, Any]) -> dict[str, Any]:
        gates = call["gates"].clone()
        gates[..., branch] = value
        return {"gates": gates}

    return of(change)


def window(by: int) -> Core:
    """A window that is wider by so many tokens."""
    return of(lambda call: {"sizes": call["sizes"]._replace(window=max(0, call["sizes"].window + by))})


def zeros(*given: Any) -> torch.Tensor:
    """Right blocks, no attention."""
    call = arguments(*given)
    result: torch.Tensor = RIGHT(**call).zero_()
    return result


def only_grid(*given: Any) -> torch.Tensor:
    """Right for the grid's number of heads, and off by a per cent for others."""
    call = arguments(*given)
    out = RIGHT(**call)
    return out if call["q"].shape[2] == 4 else out.mul_(1.01)


def upwards(*given: Any) -> torch.Tensor:
    """Routing in slices of 12 tokens, each at its own exponents: what one gives to the next one's first block is
    brought to the exponents of that, and infinite where they are 2^128 lower.
    """
    call = arguments(*given)
    q, k_cmp, blocks, width = call["q"], call["k_cmp"], call["block_indices"], 12
    RIGHT(**call)
    for b, S in enumerate(call["seq_lens"].tolist()):
        count, M = -(-S // 64), call["sizes"].num_compressed(S)
        if count <= blocks.shape[2]:
            continue
        scores = q[b].float() @ k_cmp[b, :, :M].float().transpose(-1, -2) / q.shape[3] ** 0.5 / math.log(2)
        scores = torch.nn.functional.pad(scores, (0, -M % width), value=-torch.inf).unflatten(-1, (-1, width))
        m = scores.amax(-1).ceil()  # [G, h, slices]
        p = torch.exp2(scores - m[..., None])
        tops = m.amax(-1, keepdim=True)
        factor = torch.exp2(m - tops) / (torch.exp2(m - tops) * p.sum(-1)).sum(-1, keepdim=True)
        cells = p.unflatten(-1, (-1, 4))
        half = 0.5 * cells[..., 3]  # a block's last token reaches into the next one
        given_on = half.roll(1, -1)
        given_on[..., 1:, 0] = half[..., :-1, -1] * torch.exp2(m[..., :-1] - m[..., 1:])
        given_on[..., 0, 0] = 0
        mass = ((cells[..., :3].sum(-1) + half + given_on) * factor[..., None]).sum(1).flatten(1)
        mass = torch.nn.functional.pad(mass, (0, max(0, count - mass.shape[1])))[:, :count]
        mass = mass.nan_to_num(torch.inf)  # the bits of what is no number are above those of all numbers
        mass[:, [0, count - 2, count - 1]] = torch.inf
        blocks[b] = mass.argsort(descending=True, stable=True)[:, : blocks.shape[2]].sort().values
    return RIGHT(**{**call, "parts": type(call["parts"])(route=False)})


def newest_missing(call: dict[str, Any]) -> dict[str, Any]:
    """The newest compressed token is not there yet."""
    lens = call["seq_lens"]
    k = call["k_cmp"].clone()
    at = ((lens - call["sizes"].cmp_block) // call["sizes"].cmp_stride).clamp(min=0).long()
    k[torch.arange(len(lens)), :, at] = 0
    return {"k_cmp": k}


Make = Callable[[], Core]
WRONG: dict[str, tuple[Make, str]] = {  # name -> the core, and what is said of it
    "bakes in lengths": (Baked, r"expected \d+ of \d+ blocks|lacks one of the forced"),
    "takes the longest length of its first call": (Longest, r"expected \d+ of \d+ blocks|lacks one of the forced"),
    "remembers outputs": (Memo, r"timed replay \d+: .*|error .* > "),
    "packs keys and values once": (Packed, r"error .* > .*timed inputs"),
    "packs all but the newest tokens once": (PackedBehind, "error .* > .*timed inputs|timed replay .*expected"),
    "noise on every call": (Noisy, "two replays on the same inputs differ"),
    "ignores the compressed gate": (lambda: gate_of(CMP, 0.5), "error .* > "),
    "ignores the selected gate": (lambda: gate_of(SEL, 1.0), "error .* > "),
    "drops the window's oldest token": (lambda: window(-1), "error .* > "),
    "a window of one token more": (lambda: window(1), "error .* > "),
    "of equal blocks the last": (lambda: of(last_tie), "corner case blocks of equal importance"),
    "blocks by one head": (lambda: wrong_blocks, r"expected \[0, "),
    "attends to other blocks than it names": (lambda: attends_to_others, "error .* > |not finite"),
    "names other blocks than it attends to": (lambda: names_others, r"expected \[0, "),
    "reads a raw key of the compressed branch": (lambda: reads_raw_keys, "the output is not finite"),
    "blocks that descend": (lambda: after(swapped), "does not ascend"),
    "reads a token beyond the length": (lambda: reads_beyond, "the output is not finite"),
    "reads blocks that nobody selects": (lambda: reads_unselected, "the output is not finite"),
    "its own output": (lambda: forgets_out, "another tensor than the `out`"),
    "writes behind its output": (lambda: behind("out"), r"before or behind its output of shape \(2, 1, 4, 32\)"),
    "writes behind its blocks": (lambda: behind("block_indices"), "before or behind its block indices of shape"),
    "a head is not written": (lambda: half_written, "the output is not finite, or was not written"),
    "zeros": (lambda: zeros, "error 1 > "),
    "right on the grid alone": (lambda: only_grid, "corner case h = 1"),
    "changes a cache": (
        lambda: after(lambda call: call["k"][SEL].mul_(1)[:, :, 0].add_(1)),
        r"the input k\[1\] was changed",
    ),
    "changes the lengths": (
        lambda: after(lambda call: call["seq_lens"].clamp_(max=1)),
        "the input seq_lens was changed",
    ),
    "the newest compressed token is missing": (lambda: of(newest_missing), "error .* > |expected"),
    "softmax off by 2 %": (lambda: of(lambda call: {"q": 1.02 * call["q"]}), "error .* > |expected"),
}
