"""The shapes that kernels are checked and timed on, as records name them; no torch, no pandas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from pydantic import ConfigDict


@dataclass(frozen=True)
class GridShape:
    """What names a shape (docs/kernel_check.md); N = rows = sequences x groups, h is heads_per_group."""

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


@dataclass(frozen=True)
class CoreShape:
    """One call of a decode core; a record's columns have these names. See nsa.shapes for the paper's symbols."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    batch: int
    groups: int
    heads_per_group: int
    head_dim: int
    value_dim: int
    context: int  # S, which is the caches' capacity, too
    cmp_block: int
    cmp_stride: int
    sel_block: int
    sel_count: int
    window: int
    dtype: str

    @classmethod
    def of(cls, values: Iterable[object]) -> CoreShape:
        """That of a row's columns, in their order."""
        found = dict(zip(CORE_AXES, values, strict=True))
        dtype = str(found.pop("dtype"))
        return cls(**{name: int(str(size)) for name, size in found.items()}, dtype=dtype)

    def __str__(self) -> str:
        return f"B={self.batch} S={self.context} D={self.head_dim} Dv={self.value_dim}"


CORE_AXES = tuple(axis.name for axis in fields(CoreShape))
