"""The shapes that kernels are checked and timed on, as records name them; no torch, no pandas."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

from pydantic import ConfigDict


@dataclass(frozen=True)
class GridShape:
    """What names a shape (docs/method.md#the-kernel-check); N = rows = sequences x groups, h is heads_per_group."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # within a record, as nsa.records.merge.Model

    rows: int
    heads_per_group: int
    head_dim: int
    value_dim: int
    sel_count: int

    def __str__(self) -> str:
        return f"N={self.rows} h={self.heads_per_group} D={self.head_dim} Dv={self.value_dim} n={self.sel_count}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The values of AXES."""
        return astuple(self)[: len(AXES)]


AXES = tuple(axis.name for axis in fields(GridShape))  # the columns that name a shape


@dataclass(frozen=True)
class CheckShape(GridShape):
    """One shape, and what is the same on all shapes of a run."""

    sel_block: int
    context: int
    groups: int
    dtype: str


CONSTANT = tuple(each.name for each in fields(CheckShape) if each.name not in AXES)
