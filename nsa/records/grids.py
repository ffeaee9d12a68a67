"""Which shapes the settings ask for: the acceptance grid, the roofline and the grid of decode cores.

They stand apart from the shapes, since facts hold shapes and depend on no settings.
"""

from __future__ import annotations

from itertools import product

from nsa.config import CheckSettings, CoreSettings, RooflineSettings
from nsa.records.shapes import CheckShape, CoreShape


def grid(settings: CheckSettings, device: str) -> list[CheckShape]:
    """Every shape of the acceptance grid; a CPU checks correctness only, on cpu_rows rows at cpu_context."""
    on_cuda = device == "cuda"
    rows = settings.rows if on_cuda else (settings.cpu_rows,)
    context = settings.context if on_cuda else settings.cpu_context
    axes = product(rows, settings.heads_per_group, settings.head_dim, settings.value_dim, settings.sel_count)
    fixed = (settings.sel_block, context, settings.groups, settings.dtype.of(device))
    return [CheckShape(*sizes, *fixed) for sizes in axes]


def roofline_grid(settings: RooflineSettings) -> list[CheckShape]:
    """Every shape of the roofline."""
    fixed = (settings.sel_block, settings.context, settings.groups, settings.dtype)
    axes = product(settings.rows, settings.head_dim, settings.sel_count, settings.heads_per_group)
    return [CheckShape(N, h, D, D, n, *fixed) for N, D, n, h in axes]


def core_grid(settings: CoreSettings, device: str) -> list[CoreShape]:
    """Every shape of the grid of decode cores with at most max_tokens tokens in all sequences together.

    A CPU checks correctness only, on cpu_batch sequences of cpu_context, however many tokens those are.
    """
    on_cuda = device == "cuda"
    batch = settings.batch if on_cuda else (settings.cpu_batch,)
    contexts = settings.contexts if on_cuda else (settings.cpu_context,)
    rest = (settings.cmp_block, settings.cmp_stride, settings.sel_block, settings.sel_count, settings.window)
    dtype = settings.dtype.of(device)
    return [
        CoreShape(B, settings.groups, settings.heads_per_group, D, settings.value_dim, S, *rest, dtype)
        for D, B, S in product(settings.head_dim, batch, contexts)
        if B * S <= settings.max_tokens or not on_cuda
    ]
