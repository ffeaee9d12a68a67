"""Which shapes the settings ask for: the acceptance grid and the roofline.

They stand apart from the shapes, since facts hold shapes and depend on no settings.
"""

from __future__ import annotations

from itertools import product

from nsa.config import CheckSettings, RooflineSettings
from nsa.records.shapes import CheckShape


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
