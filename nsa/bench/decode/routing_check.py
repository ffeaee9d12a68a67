"""Routing on this device: forced blocks, ragged lengths and exact ties, against the oracle's loops."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nsa.attention import reference
from nsa.attention.routing import select_blocks

BLOCK, CONTEXTS, CASES, LEVELS = 16, 900, 24, 5  # few score levels: nearly every choice is a tie

Router = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]


def routing_fault(device: torch.device, router: Router = select_blocks) -> str | None:
    """The first case in which the chosen blocks are not the oracle's, as one phrase; None when all agree."""
    generator = torch.Generator().manual_seed(0)
    for case in range(CASES):
        seq_lens = torch.randint(1, CONTEXTS, (3, 2), generator=generator, dtype=torch.int32)
        blocks = -(-int(seq_lens.max()) // BLOCK)
        scores = torch.randint(0, LEVELS, (3, 2, blocks), generator=generator).float() / LEVELS
        count = 3 + case % 14
        chosen = router(scores.to(device), seq_lens.to(device), BLOCK, count).cpu()
        for b in range(3):
            for g in range(2):
                S = int(seq_lens[b, g])
                want = reference.select_blocks(scores[b, g, : -(-S // BLOCK)].double().numpy(), S, BLOCK, count)
                got = [index for index in chosen[b, g].tolist() if index >= 0]
                if got != want or len(chosen[b, g]) != count:
                    return f"S = {S}, n = {count}: chose blocks {got}, expected {want}"
    return None
