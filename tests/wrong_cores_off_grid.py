"""Decode cores that are right on the grid, and wrong in one corner case each: sizes, memory, parts, values, lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from wrong_cores import Make
from wrong_cores_kept import RIGHT, arguments

from nsa.attention.branches import compressed_attention
from nsa.attention.routing import block_importance, select_blocks
from nsa.bench.core.corner_cases import CORNERS
from nsa.errors import InputError
from nsa.kernels.core import CMP, SEL, WIN, Core, Parts, Sizes

Call = dict[str, Any]
GRID = {
    "groups": 1,
    "heads_per_group": 4,
    "head_dim": 32,
    "value_dim": 32,
    "cmp_block": 32,
    "cmp_stride": 16,
    "sel_block": 64,
    "sel_count": 4,
    "window": 100,
}
Weights = Callable[[torch.Tensor], torch.Tensor]  # scores -> what values are multiplied with


def where(holds: Callable[[Call], bool], wrong: Callable[..., torch.Tensor]) -> Core:
    """The right core, but for calls of one kind."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        return (wrong if holds(call) else RIGHT)(**call)

    return core


def off(**call: Any) -> torch.Tensor:
    """Right, but for a per cent."""
    return RIGHT(**call).mul_(1.01)


def windowed(weigh: Weights) -> Core:
    """The window's probabilities in another way than by a softmax."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        q, k, v, width = call["q"], call["k"][WIN], call["v"][WIN], call["sizes"].window
        out = RIGHT(**{**call, "parts": Parts(win=False)})
        for b, S in enumerate(call["seq_lens"].tolist()):
            if some := min(width, S):
                keys, values = (each[b, :, S - some : S] for each in (k, v))
                p = weigh(q[b].float() @ keys.float().transpose(-1, -2) / q.shape[3] ** 0.5)
                sums = p.to(p.dtype) @ values.to(p.dtype) / p.sum(-1, keepdim=True)
                out[b] += call["gates"][b, ..., WIN, None] * sums
        return out

    return core


def from_zero(scores: torch.Tensor) -> torch.Tensor:
    """A running maximum that begins at zero."""
    return (scores - scores.amax(-1, keepdim=True).clamp(min=0)).exp()


def without_tail(scores: torch.Tensor) -> torch.Tensor:
    """No weight below 1e-7 of the largest."""
    p = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.where(p < 1e-7, 0, p)


def in_half(**call: Any) -> torch.Tensor:
    """Sums of values in half precision, divided afterwards."""
    half = windowed(lambda scores: (scores - scores.amax(-1, keepdim=True)).exp().half())
    return half(*call.values())


def routed(importance: Callable[[torch.Tensor, int, Sizes], torch.Tensor], some: int = 0) -> Core:
    """Blocks by another importance, from the heads' probabilities; `some`: at most so many, and then from the front."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        sizes, blocks = call["sizes"], call["block_indices"]
        RIGHT(**call)
        for b, S in enumerate(call["seq_lens"].tolist()):
            count, M = sizes.num_blocks(S), sizes.num_compressed(S)
            if count <= sizes.sel_count:
                continue
            keys, values = (call[name][b : b + 1, :, :M] for name in ("k_cmp", "v_cmp"))
            p = compressed_attention(call["q"][b : b + 1], keys, values)[1][0]
            score = importance(p, count, sizes)
            if some and sizes.sel_count > some:
                last = score.topk(some, -1).values[:, -1:]
                score = torch.where(score >= last, score, 0)
            lengths = torch.full((len(score),), S, dtype=torch.int32)
            blocks[b] = select_blocks(score.float(), lengths, sizes.sel_block, sizes.sel_count)
        return RIGHT(**{**call, "parts": Parts(route=False)})

    return core


def by_index(**call: Any) -> torch.Tensor:
    """The first blocks, whatever their importance."""
    return routed(lambda p, count, _: p.new_zeros(len(p), count))(*call.values())


def right_importance(p: torch.Tensor, count: int, sizes: Sizes) -> torch.Tensor:
    return block_importance(p.sum(1)[:, : count * sizes.sel_block // sizes.cmp_stride], count, sizes)


def half_importance(p: torch.Tensor, count: int, sizes: Sizes) -> torch.Tensor:
    return right_importance(p.half().float(), count, sizes)


def two_blocks(p: torch.Tensor, count: int, sizes: Sizes) -> torch.Tensor:
    """A compressed token gives to the blocks of its first and of its last token, as if it reached into no other."""
    start = torch.arange(p.shape[-1]) * sizes.cmp_stride
    first, last = start // sizes.sel_block, (start + sizes.cmp_block - 1) // sizes.sel_block
    inside = ((first + 1) * sizes.sel_block - start).clamp(max=sizes.cmp_block) / sizes.cmp_block
    score = p.new_zeros(len(p), count).index_add_(1, first, p.sum(1) * inside)
    beyond = torch.where(last > first, (start + sizes.cmp_block - last * sizes.sel_block) / sizes.cmp_block, 0)
    return score.index_add_(1, last.clamp(max=count - 1), p.sum(1) * beyond * (last < count))


def contiguous(tensor: torch.Tensor) -> torch.Tensor:
    """What is there for who takes a tensor for contiguous."""
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape, device="meta").stride())


def flat(name: str) -> Core:
    """One argument is taken for contiguous."""
    return lambda *given: RIGHT(**{**arguments(*given), name: contiguous(arguments(*given)[name])})


def flat_caches(*given: Any) -> torch.Tensor:
    call = arguments(*given)
    keys, values = ([call[name][CMP], *map(contiguous, call[name][SEL:])] for name in ("k", "v"))
    return RIGHT(**{**call, "k": keys, "v": values})


def strides_of_keys(*given: Any) -> torch.Tensor:
    """Values as if they lay like their keys, where they are as wide."""
    call = arguments(*given)
    k, v = call["k"], call["v"]
    if k[SEL].shape != v[SEL].shape:
        return RIGHT(**call)
    mine = [v[CMP], *(each.as_strided(each.shape, key.stride()) for key, each in zip(k[SEL:], v[SEL:], strict=True))]
    return RIGHT(**{**call, "v": mine})


class Uncleared:
    """What it sums into is cleared at the first call of a size, where n is odd."""

    def __init__(self) -> None:
        self.sizes: set[object] = set()

    def __call__(self, *given: Any) -> torch.Tensor:
        call = arguments(*given)
        out = RIGHT(**call)
        if call["sizes"] in self.sizes and call["sizes"].sel_count == 7:
            out.mul_(2)
        self.sizes.add(call["sizes"])
        return out


def lengths_by_numbers(*given: Any) -> torch.Tensor:
    """As many tokens as are no NaN and not infinite."""
    call = arguments(*given)
    there = call["k"][WIN][:, 0, :, 0].isfinite().sum(1).int()
    return RIGHT(**{**call, "seq_lens": there})


def clears_nan(*given: Any) -> torch.Tensor:
    """A value beyond the length, times a weight of zero, unless it is NaN."""
    call = arguments(*given)
    last = call["v"][SEL][:, :, -1:]
    return RIGHT(**call).add_(0 * torch.where(last.isnan(), 0, last))


def reads_what_is_off(*given: Any) -> torch.Tensor:
    """A key of the selected branch, whether it is on or not."""
    call = arguments(*given)
    return RIGHT(**call).add_(0 * call["k"][SEL][:, :, :1, :1].nan_to_num(0 if call["parts"].sel else torch.nan))


def routes_again(**call: Any) -> torch.Tensor:
    return RIGHT(**{**call, "parts": Parts()})


def some_rows(**call: Any) -> torch.Tensor:
    """As many sequences as there are thread blocks."""
    out = RIGHT(**call)
    out[64:] = torch.nan
    return out


def in_15_bits(**call: Any) -> torch.Tensor:
    out, blocks = RIGHT(**call), call["block_indices"]
    blocks.copy_(torch.where(blocks >= 0, blocks % 2**15, -1).sort(-1).values)
    return out


def refuses(**_: Any) -> torch.Tensor:
    raise InputError("seq_lens: got 0, expected a token")


def known(call: Call) -> bool:
    """The sizes of the grid, and of the corner cases that have a name."""
    (_, G, h, D), Dv = call["q"].shape, call["v"][SEL].shape[3]
    mine = {"groups": G, "heads_per_group": h, "head_dim": D, "value_dim": Dv, **call["sizes"]._asdict()}
    named = (GRID | {**corner.sizes} for corner in CORNERS.values() if corner.drawn is None)
    return any(all(sizes[name] == size for name, size in mine.items()) for sizes in named)


ERROR = "error .* > "
OFF_GRID: dict[str, tuple[Make, str, str]] = {  # name -> the core, the corner case, and what is said
    "more than 16 blocks by their index": (lambda: routed(right_importance, 16), "n = 33", "expected"),
    "blocks of 128 by their index": (
        lambda: where(lambda call: call["sizes"].sel_block == 128, by_index),
        "l' = 128",
        "expected",
    ),
    "importance for two blocks at most": (lambda: routed(two_blocks), "l beyond l'", "expected"),
    "importance of probabilities in half": (
        lambda: routed(half_importance),
        "queries x 0.001, many sequences",
        "expected|the chosen blocks weigh",
    ),
    "64 sequences at most": (lambda: where(lambda call: len(call["q"]) > 64, some_rows), "many sequences", "finite"),
    "blocks in 15 bits": (
        lambda: where(lambda call: call["sizes"].sel_block == 4, in_15_bits),
        "blocks beyond 2^15",
        "does not ascend|lacks|expected",
    ),
    "knows the sizes by heart": (
        lambda: where(lambda call: not known(call), off),
        "sizes that are drawn, one",
        ERROR,
    ),
    "no instance for another dtype": (
        lambda: where(lambda call: call["q"].dtype == torch.bfloat16, off),
        "in bfloat16",
        ERROR,
    ),
    "q as if it were contiguous": (lambda: flat("q"), "queries and gates apart", "finite|expected"),
    "caches as if they were contiguous": (lambda: flat_caches, "caches apart", f"finite|{ERROR}"),
    "values with their keys' strides": (lambda: strides_of_keys, "values apart", f"finite|{ERROR}"),
    "a workspace that is cleared once": (Uncleared, "n = 7", "two calls on the same inputs differ"),
    "reads a cache of a part that is off": (lambda: reads_what_is_off, "win alone", "finite"),
    "routes where blocks are given": (
        lambda: where(lambda call: not call["parts"].route and call["parts"].cmp, routes_again),
        "blocks that are given",
        "the blocks that it was given were changed",
    ),
    "a maximum that begins at zero": (lambda: windowed(from_zero), "low scores", f"finite|{ERROR}"),
    "no small probabilities": (lambda: windowed(without_tail), "tail of small probabilities", ERROR),
    "sums in half precision": (
        lambda: where(lambda call: call["q"].dtype == torch.float16, in_half),
        "large values in float16",
        "finite",
    ),
    "as many tokens as are numbers": (lambda: lengths_by_numbers, "numbers beyond the lengths", "expected|lacks"),
    "clears NaN and not infinity": (lambda: clears_nan, "infinity beyond the lengths", "finite"),
    "refuses a sequence without a token": (
        lambda: where(lambda call: int(call["seq_lens"].min()) == 0, refuses),
        "no token",
        "it takes the grid and refuses this call",
    ),
    "writes nothing where no sequence has a token": (
        lambda: where(lambda call: int(call["seq_lens"].max()) == 0, lambda **call: call["out"]),
        "no token anywhere",
        "does not ascend",
    ),
}
