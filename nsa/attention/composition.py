"""A decode core of any selection kernel and torch's own parts: right for every size, the baseline of fused cores."""

from __future__ import annotations

import torch

from nsa.attention.branches import compressed_attention, gated_sum, window_attention
from nsa.attention.routing import block_importance, select_blocks
from nsa.kernels.contract import SelectAttention
from nsa.kernels.core import CMP, SEL, WIN, Cache, Core, Parts, Sizes, check_core


def compose(select: SelectAttention) -> Core:
    """The core that calls `select` for the selected branch; it keeps the whole of contract `Core`.

    It works at the caches' capacity and masks what lies beyond each length, so that no length is on the host: right,
    and slower than the layer's step, whose slices follow the lengths.
    """

    def core(
        q: torch.Tensor,
        gates: torch.Tensor,
        k: Cache,
        v: Cache,
        k_cmp: torch.Tensor,
        v_cmp: torch.Tensor,
        seq_lens: torch.Tensor,
        sizes: Sizes,
        parts: Parts,
        block_indices: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        check_core(q, gates, k, v, k_cmp, v_cmp, seq_lens, sizes, block_indices, out)
        outputs: dict[int, torch.Tensor] = {}
        if parts.cmp:
            mask = _compressed(seq_lens, k_cmp.shape[2], sizes)[:, None, None]  # [B, 1, 1, M]
            keys, values = (torch.where(mask.transpose(-1, -2), t, 0) for t in (k_cmp, v_cmp))
            outputs[CMP], p = compressed_attention(q, keys, values, mask)
            if parts.route:
                _route(p.sum(2), seq_lens, k[SEL].shape[2], sizes, block_indices)
        if parts.sel:
            outputs[SEL] = select(q, k[SEL], v[SEL], block_indices, seq_lens, sizes.sel_block)
        if parts.win:
            outputs[WIN] = _window(q, k[WIN], v[WIN], seq_lens, sizes.window)
        o = gated_sum(gates, outputs)
        if out is None:
            out = q.new_empty(*q.shape[:3], v[SEL].shape[3])
        return out.zero_() if o is None else out.copy_(o)

    return core


def _compressed(seq_lens: torch.Tensor, M: int, sizes: Sizes) -> torch.Tensor:
    """[B, M]: compressed token i is there once its last token is in the cache."""
    last = torch.arange(M, device=seq_lens.device) * sizes.cmp_stride + sizes.cmp_block
    return last <= seq_lens[:, None]


def _route(p: torch.Tensor, seq_lens: torch.Tensor, S: int, sizes: Sizes, block_indices: torch.Tensor) -> None:
    """p [B, G, M], summed over the heads -> block_indices [B, G, n], in place."""
    num_blocks = max(sizes.num_blocks(S), 1)
    room = num_blocks * sizes.sel_block // sizes.cmp_stride  # tokens beyond it are of no sequence
    scores = block_importance(p[..., :room], num_blocks, sizes)  # [B, G, S_blk]
    each = seq_lens[:, None].expand(p.shape[:2])
    block_indices.copy_(select_blocks(scores, each, sizes.sel_block, sizes.sel_count))


def _window(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seq_lens: torch.Tensor, width: int) -> torch.Tensor:
    """Attention over the last min(w, S) tokens of each sequence, gathered."""
    B, G, h, _ = q.shape
    width = min(width, k.shape[2])
    if width == 0:
        return q.new_zeros(B, G, h, v.shape[3])
    token = seq_lens[:, None].long() - width + torch.arange(width, device=q.device)  # [B, L]
    seen = token >= 0
    place = token.clamp(min=0)[:, None, :, None]
    keys, values = (
        torch.where(seen[:, None, :, None], t.gather(2, place.expand(-1, G, -1, t.shape[3])), 0) for t in (k, v)
    )
    o = window_attention(q, keys, values, seen[:, None, None].expand(-1, 1, h, -1))
    return torch.where((seq_lens > 0)[:, None, None, None], o, 0)
