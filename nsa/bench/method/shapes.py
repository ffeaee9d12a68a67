"""The shapes of the acceptance grid; no torch, for whoever only names them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from nsa.config import CheckSettings


@dataclass(frozen=True)
class CheckShape:
    """One shape of the acceptance grid; N = rows = sequences x groups, and the guide's H is heads_per_group."""

    rows: int
    heads_per_group: int
    head_dim: int
    value_dim: int
    sel_count: int
    sel_block: int
    context: int
    groups: int
    dtype: str

    def __str__(self) -> str:  # as the report names a shape: what is left out of one is found by it
        return f"N={self.rows} h={self.heads_per_group} D={self.head_dim} Dv={self.value_dim} n={self.sel_count}"


def grid(settings: CheckSettings, device: str) -> list[CheckShape]:
    """Every shape of the acceptance grid; a CPU checks correctness only, on cpu_rows rows at cpu_context."""
    on_cuda = device == "cuda"
    rows = settings.rows if on_cuda else (settings.cpu_rows,)
    context = settings.context if on_cuda else settings.cpu_context
    axes = product(rows, settings.heads_per_group, settings.head_dim, settings.value_dim, settings.sel_count)
    fixed = (settings.sel_block, context, settings.groups, settings.dtype.of(device))
    return [CheckShape(*sizes, *fixed) for sizes in axes]
