"""The shape of an NSA layer and the closed forms that follow from it (NSA paper, section 3; docs/decode_cell.md)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from nsa.errors import ConfigError
from nsa.settings import Count, Settings, Whole, refuse

MAX_HEADS_PER_GROUP = 16  # h
MAX_SEL_COUNT = 128  # n


class NsaShape(Settings):
    """Sizes of one NSA attention layer; the paper's symbol is given beside each name.

    Raises:
        ConfigError: a size is impossible, with the key, its value and what was expected.
    """

    dim: Count = 256  # hidden size of x
    heads: Count = 8  # H, query heads
    groups: Count = 2  # G, KV groups
    head_dim: Count = 32  # D, of q and k
    value_dim: Count = 32  # Dv, of v
    cmp_block: Count = 32  # l, tokens in a compression block
    cmp_stride: Count = 16  # d, tokens between compression blocks
    sel_block: Count = 64  # l', tokens in a selection block
    # n, blocks selected per (sequence, group), forced ones included
    sel_count: Annotated[
        int, Whole(3, MAX_SEL_COUNT, why="block 0, the current block and its left are always selected")
    ] = 16
    window: Count = 512  # w, sliding window in tokens
    phi: Literal["mean", "mlp"] = "mean"  # how a compression block becomes one token

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.heads % self.groups:
            raise refuse(self.heads, f"a multiple of groups = {self.groups}", "heads")
        if self.heads_per_group > MAX_HEADS_PER_GROUP:
            raise refuse(self.heads, f"at most {MAX_HEADS_PER_GROUP} per group, groups = {self.groups}", "heads")
        if self.head_dim % 2:
            raise refuse(self.head_dim, "an even number, for RoPE", "head_dim")
        for key, value in (("cmp_block", self.cmp_block), ("sel_block", self.sel_block)):
            if value % self.cmp_stride:
                raise refuse(value, f"a multiple of cmp_stride = {self.cmp_stride}", key)
        return self

    @property
    def heads_per_group(self) -> int:
        """h, the query heads that share one group's keys and values."""
        return self.heads // self.groups

    def num_compressed(self, S: int) -> int:
        """S_cmp: compressed tokens once the caches hold S tokens."""
        return 0 if S < self.cmp_block else (S - self.cmp_block) // self.cmp_stride + 1

    def num_blocks(self, S: int) -> int:
        """S_blk: selection blocks that S tokens span, the last one possibly partial."""
        return -(-S // self.sel_block)

    def emits(self, S: int) -> bool:
        """Whether the step after which the caches hold S tokens adds a compressed token."""
        return S >= self.cmp_block and (S - self.cmp_block) % self.cmp_stride == 0

    def selected_tokens(self, S: int) -> int:
        """KV tokens in the selected blocks, clipped to S (the current block is always selected)."""
        blocks = self.num_blocks(S)
        return min(self.sel_count, blocks) * self.sel_block - (blocks * self.sel_block - S)

    def reads_expected(self, S: int) -> int:
        """KV tokens that one step touches per (sequence, group): compressed + selected + window."""
        return self.num_compressed(S) + self.selected_tokens(S) + min(self.window, S)


def require(true: bool, key: str, value: object, expected: str) -> None:
    """Raise a ConfigError that names the key, its value and what was expected."""
    if not true:
        raise ConfigError(f"{key}: got {value!r}, expected {expected}")
