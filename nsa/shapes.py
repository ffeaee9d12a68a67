"""The shape of an NSA layer and the closed forms that follow from it (NSA paper, section 3; guide, "Reads")."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.errors import ConfigError


@dataclass(frozen=True)
class NsaShape:
    """Sizes of one NSA attention layer; the paper's symbol is given beside each name.

    Raises:
        ConfigError: a size is impossible, with the key, its value and what was expected.
    """

    dim: int = 256  # hidden size of x
    heads: int = 8  # H, query heads
    groups: int = 2  # G, KV groups
    head_dim: int = 32  # D, of q and k
    value_dim: int = 32  # Dv, of v
    cmp_block: int = 32  # l, tokens in a compression block
    cmp_stride: int = 16  # d, tokens between compression blocks
    sel_block: int = 64  # l', tokens in a selection block
    sel_count: int = 16  # n, blocks selected per (sequence, group), forced ones included
    window: int = 512  # w, sliding window in tokens
    phi: str = "mean"  # how a compression block becomes one token: "mean" or "mlp"

    def __post_init__(self) -> None:
        sizes = {key: value for key, value in vars(self).items() if key != "phi"}
        for key, value in sizes.items():
            require(
                isinstance(value, int) and not isinstance(value, bool) and value >= 1, key, value, "a whole number ≥ 1"
            )
        require(self.phi in ("mean", "mlp"), "phi", self.phi, "'mean' or 'mlp'")
        require(self.heads % self.groups == 0, "heads", self.heads, f"a multiple of groups = {self.groups}")
        require(self.heads_per_group <= 16, "heads", self.heads, f"at most 16 per group, groups = {self.groups}")
        require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "an even number, for RoPE")
        require(
            self.cmp_block % self.cmp_stride == 0,
            "cmp_block",
            self.cmp_block,
            f"a multiple of cmp_stride = {self.cmp_stride}",
        )
        require(
            self.sel_block % self.cmp_stride == 0,
            "sel_block",
            self.sel_block,
            f"a multiple of cmp_stride = {self.cmp_stride}",
        )
        require(self.sel_count >= 3, "sel_count", self.sel_count, "at least 3: block 0, the current one and its left")

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
