"""Layers that are wrong in one realistic way each: what is replaced in the right one, and the checks that must fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional as F
from wrong import mistakes

from nsa.attention import branches
from nsa.attention.cache import KVCache
from nsa.attention.layer import NsaAttention
from nsa.attention.parts import TorchParts
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa.packed import gather

Patch = pytest.MonkeyPatch
Make = Callable[[Patch], None]
STEP, CACHE, BLOCKS, CLOSE = "step_wrong", "cache_wrong", "blocks_wrong", "blocks_close"
ROUTING, FINITE, READS = "routing_wrong", "output_not_finite", "reads_differ"


class Wrong(NamedTuple):
    """How a layer is made wrong, the checks that fire and no others, and words that one of their messages must have."""

    make: Make
    checks: set[str]
    because: str
    select: SelectAttention = gather


def method(owner: type, name: str, wrong: Callable[..., Any]) -> Make:
    """Replace a method by one that gets the right one first."""
    right = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *arguments: wrong(right, *arguments))


def name(where: str, wrong: Callable[..., Any]) -> Make:
    """Replace a name of a module of nsa.attention."""
    return lambda patch: patch.setattr(f"nsa.attention.{where}", wrong)


def both(*makes: Make) -> Make:
    """Several replacements that together are one mistake."""

    def make(patch: Patch) -> None:
        for each in makes:
            each(patch)

    return make


def nothing(patch: Patch) -> None:
    """The layer is right; the kernel is not."""


def layer(where: str, wrong: Callable[..., Any]) -> Make:
    return method(NsaAttention, where, wrong)


def route_by(change: Callable[[torch.Tensor], torch.Tensor]) -> Make:
    """Routing by other probabilities [B, G, h, M]."""
    return method(TorchParts, "route", mistakes.by_other_probabilities(change))


def choose(wrong: Callable[..., torch.Tensor]) -> Make:
    """Another choice by given scores, wherever it is looked up."""
    return both(name("routing.select_blocks", wrong), name("parts.select_blocks", wrong))


def attend_window(wrong: Callable[..., torch.Tensor]) -> Make:
    return name("layer.window_attention", wrong)


def attend_compressed(wrong: Callable[..., Any]) -> Make:
    return name("parts.compressed_attention", wrong)


def fill_by(wrong: Callable[..., None]) -> Make:
    """Another prefill of the cell."""
    return lambda patch: patch.setattr("nsa.bench.decode.cell.fill", wrong)


def ignore(right: Callable[..., Any], *arguments: Any) -> None:
    """Nothing is done."""


ATTEND = branches.compressed_attention

LAYERS: dict[str, Wrong] = {
    "packed SDPA that ignores q": Wrong(
        nothing, {STEP}, "outputs differ from float64: sel by", lambda q, *rest: gather(torch.zeros_like(q), *rest)
    ),
    "a kernel that sees one token beyond S": Wrong(
        nothing, {FINITE, READS, STEP}, "an output is not finite", mistakes.sees_one_beyond
    ),
    "a window that is constant": Wrong(
        attend_window(lambda q, k, v, mask=None: q.new_ones(*q.shape[:3], v.shape[3])), {STEP}, "win by"
    ),
    "a window with a mask that is aligned top-left": Wrong(
        attend_window(lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        {STEP},
        "win by",
    ),
    "a window without the scale": Wrong(
        attend_window(lambda q, k, v, mask=None: F.scaled_dot_product_attention(q, k, v, scale=1.0)), {STEP}, "win by"
    ),
    "a window of w + 1 tokens": Wrong(layer("_window", mistakes.moved_window(1, 0)), {STEP, READS}, "KV tokens read"),
    "a window that ends before the newest token": Wrong(
        layer("_window", mistakes.moved_window(1, 1)), {STEP}, "win by"
    ),
    "compressed attention without the scale": Wrong(
        attend_compressed(lambda q, *rest: ATTEND(q * q.shape[-1] ** 0.5, *rest)), {STEP, BLOCKS}, "cmp by"
    ),
    "compressed attention that sees the block that is not complete": Wrong(
        method(TorchParts, "compressed", mistakes.one_compressed_token_more),
        {STEP, FINITE, BLOCKS},
        "not finite",
    ),
    "gates that are ignored": Wrong(
        layer("gates", lambda right, *arguments: torch.ones_like(right(*arguments))), {STEP}, "cmp by"
    ),
    "gates of the wrong branches": Wrong(
        layer("gates", lambda right, *arguments: right(*arguments).flip(-1)), {STEP}, "cmp by"
    ),
    "heads that are dealt out to the groups in turn": Wrong(
        layer("project", mistakes.dealt_out), {STEP, CACHE}, "query by"
    ),
    "routing to the worst blocks": Wrong(
        name("routing.block_importance", mistakes.worst_first), {BLOCKS}, "have other blocks than those of highest"
    ),
    "routing that ignores the probabilities": Wrong(route_by(torch.ones_like), {BLOCKS}, "have other blocks"),
    "routing by the probabilities of another group": Wrong(route_by(lambda p: p.roll(1, 1)), {BLOCKS}, "other blocks"),
    "routing by the first head of a group": Wrong(route_by(lambda p: p[:, :, :1]), {BLOCKS}, "other blocks"),
    "routing by the largest head of a group": Wrong(
        route_by(lambda p: p.amax(2, keepdim=True)), {BLOCKS}, "other blocks"
    ),
    "Eq. 9 with minus signs": Wrong(name("routing.block_importance", mistakes.minus_signs), {BLOCKS}, "other blocks"),
    "the last n blocks in the place of routing": Wrong(
        name("parts.route", mistakes.last_blocks), {BLOCKS}, "have other blocks"
    ),
    "forced blocks that are missing": Wrong(
        choose(mistakes.without_forced), {BLOCKS, ROUTING, READS}, "routing differs from the oracle"
    ),
    "ties to the higher index": Wrong(choose(mistakes.ties_upwards), {ROUTING}, "routing differs from the oracle"),
    "RoPE over the flat H*D vector": Wrong(
        layer("project", mistakes.flat_rope), {STEP, CACHE}, "queries or caches differ from float64: query by"
    ),
    "RoPE one position further in the step": Wrong(
        layer("angles", mistakes.one_further_in_the_step), {STEP, CACHE}, "query by"
    ),
    "RoPE one position further everywhere": Wrong(
        layer("angles", mistakes.one_further), {STEP, CACHE}, "prefilled key by"
    ),
    "values that are turned by RoPE": Wrong(layer("project", mistakes.turned_values), {STEP, CACHE}, "value by"),
    "a token that is appended at t + 1": Wrong(
        method(KVCache, "write_token", mistakes.appends_beside),
        {STEP, CACHE, FINITE, BLOCKS, CLOSE},
        "key is not finite",
    ),
    "one key for all three branches": Wrong(
        method(KVCache, "write_token", mistakes.one_branch_for_all), {STEP, CACHE}, "key by"
    ),
    "a length on the device that stays behind": Wrong(
        method(KVCache, "advance", mistakes.host_length_only), {STEP, CACHE, READS}, "are not S"
    ),
    "phi over keys without RoPE": Wrong(
        both(fill_by(mistakes.filled_unroped), layer("_emit", mistakes.emits_unroped)),
        {STEP, CACHE},
        "prefilled k_cmp by",
    ),
    "a prefill that never compresses": Wrong(fill_by(mistakes.never_compressed), {CACHE, CLOSE}, "v_cmp by"),
    "a prefill whose blocks start a token late": Wrong(fill_by(mistakes.starts_late), {CACHE}, "prefilled v_cmp by"),
    "a step that never compresses": Wrong(layer("_emit", ignore), {STEP, CACHE, FINITE, BLOCKS, CLOSE}, "not finite"),
    "a compressed token without the newest token": Wrong(
        layer("_emit", mistakes.shifted_block), {STEP, CACHE}, "k_cmp"
    ),
}
